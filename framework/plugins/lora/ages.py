"""The minimum age a publisher writes on a book, read from text such as ``Age 3-5``, ``12+`` or ``18 months - 3 years``.

Ages are in years. Only the lower end counts: a book for three to five year olds is one that a child can begin to read at three.
"""

from __future__ import annotations

import bisect
import itertools
import re
import unicodedata
from collections.abc import Sequence

OLDEST_YEARS = 120
"""A larger number is no age (``2019``, ``ISBN 978...``)."""

_DASHES = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d~]")
_UNIT = r"(?P<{name}>months?|mths?|mos?|m|years?|yrs?|y)?(?: old)?"
_AGE = re.compile(
    r"(?:for )?(?:reading )?(?:age[sd]?|from)?:? ?"
    + r"(?P<low>[0-9]+(?:\.[0-9]+)?) ?"
    + _UNIT.format(name="low_unit")
    + r"(?: ?(?:\+|plus\b|(?:and|&|or) (?:up|over|above|older)\b) ?"
    + _UNIT.format(name="open_unit")
    + r"| ?(?:-|to|until|and) ?(?P<high>[0-9]+(?:\.[0-9]+)?) ?"
    + _UNIT.format(name="high_unit")
    + r")?\.?"
)


def parse_minimum_age(text: str) -> float:
    """The lower end of a written age, in years: 3.0 for ``Age 3-5``, 0.5 for ``6 months+``, 13.0 for ``13``.

    A number without a unit takes the unit of the number behind it (``6-18 months``), else it is in years.

    Raises:
        ValueError: there is no age (``Age``, an empty text, ``nan``), other words stand beside it, the range is upside
            down, or the number is above ``OLDEST_YEARS``.
    """
    plain = " ".join(_DASHES.sub("-", unicodedata.normalize("NFKC", text)).casefold().split())
    match = _AGE.fullmatch(plain)
    if match is None:
        raise ValueError(f"{text!r} is no age")
    low_unit = match["low_unit"] or match["open_unit"] or match["high_unit"]
    low = _in_years(match["low"], low_unit)
    if match["high"] is not None and _in_years(match["high"], match["high_unit"]) < low:
        raise ValueError(f"{text!r} is no age: it ends before it begins")
    if low > OLDEST_YEARS:
        raise ValueError(f"{text!r} is no age: {low:g} years")
    return low


def age_name(years: float) -> str:
    """The class that one exact minimum age stands for: ``3``, ``6 months``. ``parse_minimum_age`` reads it back exactly."""
    if years.is_integer():
        return str(int(years))
    months = round(years * 12)
    return f"{months} months" if months / 12 == years else str(years)


def group_names(lower_bounds: Sequence[float]) -> tuple[str, ...]:
    """Names of the age groups that begin at these ages: (0, 3, 6, 9) gives ``0-2``, ``3-5``, ``6-8``, ``9+``."""
    pairs = itertools.pairwise(lower_bounds)
    return (*(_group_name(low, following) for low, following in pairs), f"{lower_bounds[-1]:g}+")


def group_of(years: float, lower_bounds: Sequence[float]) -> int:
    """The index of the group an age falls into: the last one whose lower bound is not above it.

    Raises:
        ValueError: the age is below the first group.
    """
    if years < lower_bounds[0]:
        raise ValueError(f"age {years:g} is below the first age group, which begins at {lower_bounds[0]:g}")
    return bisect.bisect_right(lower_bounds, years) - 1


def _in_years(number: str, unit: str | None) -> float:
    return float(number) / 12 if unit is not None and unit.startswith("m") else float(number)


def _group_name(low: float, following: float) -> str:
    if not (float(low).is_integer() and float(following).is_integer()):
        return f"{low:g}-<{following:g}"
    return f"{low:g}" if following - low == 1 else f"{low:g}-{following - 1:g}"
