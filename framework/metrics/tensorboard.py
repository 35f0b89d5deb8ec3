"""Scalars, stories and hyper-parameters for TensorBoard; one continuous curve across restarts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes below ``folder``.

    Args:
        folder: the run's ``tensorboard`` folder.
        resume_step: events of later steps, left by a start that died, are hidden by TensorBoard (``purge_step``).
    """

    def __init__(self, folder: Path, *, resume_step: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=resume_step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point on each named curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # what a killed run has shown must not be missing from its curve

    def text(self, step: int, name: str, text: str) -> None:
        """A text, shown as written."""
        self._writer.add_text(name, text.replace("\n", "  \n"), step)

    def hyper_parameters(self, values: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]) -> None:
        """The run's row in the HPARAMS tab."""
        self._writer.add_hparams(dict(values), dict(metrics), run_name=".")

    def close(self) -> None:
        self._writer.close()
