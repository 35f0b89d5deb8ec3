"""What a user can cause, and mend."""

from __future__ import annotations


class ClusterError(Exception):
    """Ends the command with exit code 2.

    Args:
        cause: what is wrong, with the value.
        fix: what to do about it.
    """

    def __init__(self, cause: str, *, fix: str) -> None:
        super().__init__(f"{cause}. To fix it: {fix}.")
