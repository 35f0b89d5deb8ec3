"""What a scenario is: starts that go wrong, one after another, and what must be true of each of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from framework.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED
from tests.starts import Ended, Running

KILLED = (EXIT_FAILED,)


class Scene(Protocol):
    """Where a scenario happens; what damages and outside events may look at and touch."""

    run_dir: Path
    shards: Path
    rng: random.Random

    def restore_shards(self) -> None:
        """Puts the undamaged shards back."""

    def golden(self, overrides: tuple[str, ...], ranks: int) -> Path:
        """The run directory of an undisturbed run; made when it is not there yet."""

    def start_beside(self) -> Ended:
        """Starts the same run once more while it is alive, and waits."""


Damage = Callable[[Scene], None]
Outside = Callable[[Scene, Running], None]


@dataclass(frozen=True)
class Start:
    """One start of the run: what happens to it, and what is expected of it."""

    failpoints: str = ""
    """Each of these has to fire, or the scenario fails."""
    ranks: int = 2
    overrides: tuple[str, ...] = ()
    before: Damage | None = None
    """Done to files before the start."""
    repair: Damage | None = None
    """What somebody does to files first, who has read the last message."""
    outside: Outside | None = None
    """Done from outside while it runs."""
    exits: tuple[int, ...] = KILLED
    says: str = ""
    """A pattern that what the ranks wrote must match."""
    records: str = ""
    """A word that a line of events.jsonl must hold afterwards."""
    through_launcher: bool = False
    """By `zerostream train` in place of the zygote."""
    deadline_seconds: float | None = None
    """The deadline that has to run out before anything can be noticed."""
    moves: bool = False
    """Another world size, stage or engine than before: an injection without a fault."""
    learns_otherwise: bool = False
    """What it records is not what the golden run did, and is taken back by the next start."""
    power_cut: bool = False
    """Afterwards, what was not synced is lost."""

    @property
    def is_injection(self) -> bool:
        return bool(self.failpoints or self.before or self.outside or self.moves)


UNDISTURBED = Start(exits=(EXIT_FINISHED,))


@dataclass(frozen=True)
class Scenario:
    """Starts with faults, then undisturbed ones until the run has finished; then it is compared with the golden run."""

    kind: str
    name: str
    starts: tuple[Start, ...]
    overrides: tuple[str, ...] = ()
    """Of all starts, and of the golden run."""
    finish: Start = UNDISTURBED
    golden_ranks: int = 2
    golden_failpoints: str = ""
    """Faults that the golden run has as well, because they change what is learned: steps that are left out."""
    shards: str = ""
    """Name of the damage that the shards have from the first start on, in the golden run as well."""
    same: Literal["bits", "close"] = "bits"
    """Equal digits and files, or equal digests and losses within 1e-5."""
    is_quick: bool = False
    """Whether it belongs to the short part that `make test` runs."""
    damages_checkpoints: bool = False

    @property
    def injections(self) -> int:
        return sum(start.is_injection for start in (*self.starts, self.finish))


@dataclass
class Verdict:
    """What came of one scenario."""

    kind: str
    name: str
    injections: int
    problems: list[str] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    last_words: list[str] = field(default_factory=list)
    noticed_seconds: list[float] = field(default_factory=list)
    """From each fault until all ranks had ended, less the deadline where one had to run out."""
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    steps: int = 0
    is_bit_exact: bool = False
    loss_difference: float = 0.0
    """Largest relative difference to the golden run's losses."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.problems


ENGINES: Mapping[str, tuple[str, ...]] = {
    "reference": ("engine.kind=reference",),
    **{f"zero{stage}": (f"engine.zero_stage={stage}",) for stage in range(4)},
}
PRECISIONS = ("fp32", "bf16")
STOPPED = (EXIT_PREEMPTED,)


def engine_overrides(engine: str, precision: str = "fp32") -> tuple[str, ...]:
    return (*ENGINES[engine], f"engine.precision={precision}")
