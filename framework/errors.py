"""One class per cause of failure. Every message says what happened, to which value, and what to do about it.

``UserError`` and its children end a command with exit code 2, before anything is written or any rank starts;
every other error ends it with 1. ``PreemptedError`` is no failure: the run is saved and wants to go on (75).
"""

from __future__ import annotations

EXIT_FINISHED = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_PREEMPTED = 75


class ZerostreamError(Exception):
    """A failure with a cause and a remedy, printed as the last line of the command.

    Args:
        cause: what happened, naming the offending value.
        fix: what the user can do now, as an imperative.
    """

    exit_code = EXIT_FAILED

    def __init__(self, cause: str, *, fix: str) -> None:
        super().__init__(cause, fix)
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.cause}. To fix it: {self.fix}."

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, which data workers use to report errors.
        return (_rebuild, (type(self), self.cause, self.fix))


def _rebuild(kind: type[ZerostreamError], cause: str, fix: str) -> ZerostreamError:
    return kind(cause, fix=fix)


class UserError(ZerostreamError):
    """Refused input: exit code 2."""

    exit_code = EXIT_REFUSED


class ConfigError(UserError):
    """A configuration that is unknown, ill-typed or impossible."""


class BatchArithmeticError(ConfigError):
    """global_batch_size, micro_batch_size and the number of ranks do not fit together."""


class SourceError(UserError):
    """Text that is missing, empty, or cannot be read."""


class TokenizerError(UserError):
    """A tokenizer that cannot be loaded or does not match the shards."""


class ShardError(UserError):
    """Shards or their manifest are missing, damaged, or belong to something else."""


class RunDirError(UserError):
    """A run directory that is missing, or that belongs to another configuration."""


class PluginError(UserError):
    """A plugin that is unknown, clashes with another, or does not load."""


class CheckpointError(ZerostreamError):
    """A checkpoint that is incomplete or does not verify."""


class StorageError(ZerostreamError):
    """The file system refused a write (no space left, read-only, input/output error)."""

    exit_code = EXIT_REFUSED


class WaitError(ZerostreamError):
    """Another process has not done in time what this one waits for."""


class NonFiniteError(ZerostreamError):
    """A loss or gradient that is NaN or infinite; agreed by all ranks before it reaches the weights."""


class PreemptedError(ZerostreamError):
    """The run was asked to stop, has saved, and goes on when it is started again."""

    exit_code = EXIT_PREEMPTED
