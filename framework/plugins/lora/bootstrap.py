"""How sure a test set of this size lets one be: percentile bootstrap intervals (Efron & Tibshirani 1993, chapter 13).

The test set is drawn anew, with replacement, and 95% of the draws score between the interval's two ends. It tells how far
the score would move on other examples of the same kind, with the model as it is; another training run may move it further.

Rows that belong together (editions of one book, the same text twice) are no independent witnesses. Where groups are
given, whole groups are drawn (Field & Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x), or the interval is too narrow.

Whatever is a function of sums over rows can be drawn here. Rows or groups with equal sums are interchangeable, so that a
draw is one multinomial over the distinct sums; of rows there are few kinds, and a draw of a million costs little more
than one of a hundred.

Where every example is right, so is every draw: [1, 1] then says that the test set is too small to find a mistake, not
that there is none to make.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

_DRAWN_AT_ONCE = 4_000_000  # 32 MB


def draw_sums(sums: Floats, groups: Sequence[str] | None, *, samples: int, seed: int) -> Floats:
    """[samples, columns]: the columns' totals over as many groups (or rows) as there are, drawn with replacement.

    One group alone shows no spread; the answer is then [0, columns].

    Args:
        sums: [rows, columns] float64.
        groups: [rows]; None draws rows.
    """
    if groups is not None:
        places = {name: place for place, name in enumerate(dict.fromkeys(groups))}
        of_group = np.zeros((len(places), sums.shape[1]))
        np.add.at(of_group, [places[name] for name in groups], sums)
        sums = of_group
    if len(sums) == 1:
        return np.empty((0, sums.shape[1]))
    distinct, counts = np.unique(sums, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // len(distinct))
    return np.concatenate(
        [
            generator.multinomial(len(sums), counts / len(sums), size=min(at_once, samples - begin)) @ distinct
            for begin in range(0, samples, at_once)
        ]
    )


def interval_95(draws: Floats) -> Interval | None:
    """The range that 95% of ``draws`` [samples] lie in; None where there is no draw."""
    if len(draws) == 0:
        return None
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
