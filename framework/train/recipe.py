"""What a run learns and how it is scored: everything in which pretraining and fine-tuning differ.

The loop, the engines, the checkpoints and the hooks that record a run know a recipe by this interface alone. Pretraining is one
(``framework.train.pretraining``); a plugin can bring others (docs/plugins.md).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from framework.config import BatchPlan, Config
from framework.data.tokenizer import Tokenizer
from framework.plugins.interface import Hook
from framework.run_dir import RunDir

if TYPE_CHECKING:
    from torch import nn

    from framework.data.stream import StepBatch
    from framework.engine import Engine
    from framework.model.loss_model import LossModel
    from framework.train.events import EventLog
    from framework.train.hooks import TensorBoardHook


class Stream(Protocol):
    """One rank's training batches."""

    def steps(self, first_step: int) -> Iterator[StepBatch]:
        """This rank's share of step ``first_step`` (from 0) and all that follow, for ever; nothing before it is read."""


class Evaluator(Protocol):
    """Scores a run's engine."""

    def evaluate(self, step: int) -> dict[str, float]:
        """Metrics after ``step`` steps, ``loss`` among them. All ranks call it together and get the same."""


class Recipe(ABC):
    """A kind of run. Made from its config alone, on every rank alike; what is read is read when it is first asked for.

    Args:
        config: of the run.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    @abstractmethod
    def check(self) -> None:
        """Refuses what cannot work, before anything is written or any rank starts. Needs no torch.

        Raises:
            UserError: with the cause and the remedy.
        """

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """Of the text that is learned from."""

    @property
    @abstractmethod
    def data_fingerprint(self) -> str:
        """Of all that decides what each step learns from, besides the config's identity: a run goes on with no other."""

    @property
    @abstractmethod
    def data_name(self) -> str:
        """Where the data is, for messages."""

    beginning = "from random weights"
    """What a run that has taken no step yet begins with."""
    unit = "tokens"
    """What a target is: what speed is counted in."""
    data_kind = "data"
    """What the data is made of, for messages."""
    loaded_by = "AutoModelForCausalLM"
    """transformers' class that loads what is exported of such a run."""
    restore_data_fix = "give it the data that it began with"
    """What to do when a run is started with other data than it began with."""

    @property
    @abstractmethod
    def ignorant_loss(self) -> float:
        """Loss of a model that knows nothing, in nats."""

    @abstractmethod
    def describe_data(self, plan: BatchPlan) -> str:
        """How much there is, and how often the run goes through it."""

    @abstractmethod
    def build_model(self, tokenizer: Tokenizer, used_from: RunDir | None = None) -> LossModel:
        """The model before the first step, the same on every rank.

        Args:
            tokenizer: of the run.
            used_from: the run's directory when the model is not to be trained, but used: then no data is read.
        """

    def build_model_to_fill(self, tokenizer: Tokenizer) -> LossModel:
        """As ``build_model``, for a run that goes on: whatever numbers the trained weights hold, a checkpoint overwrites them."""
        return self.build_model(tokenizer)

    def whole(self, model: LossModel) -> nn.Module:
        """The transformer of a model that was built and filled, as others load it: without adapters around it."""
        return model.transformer

    @abstractmethod
    def stream(self, plan: BatchPlan, rank: int) -> Stream:
        """The training batches of ``rank``."""

    @abstractmethod
    def evaluator(self, plan: BatchPlan, engine: Engine) -> Evaluator:
        """Scores ``engine`` on data that it does not learn from."""

    def hooks(self, plan: BatchPlan, engine: Engine, board: TensorBoardHook | None, events: EventLog) -> list[Hook]:
        """Hooks of this kind of run, on every rank; ``board`` is None on all but rank 0, and where there is no TensorBoard."""
        return []

    def save_for_use(self, run_dir: RunDir) -> None:  # noqa: B027 - most runs need nothing
        """Leaves in the run directory what it is later used with, besides config and tokenizer. Rank 0 calls it."""

    @abstractmethod
    def closing_lines(self, validation: Mapping[str, float]) -> list[tuple[str, str]]:
        """(word, text) of the last words of a finished run: what it reached first, then what to do with it."""
