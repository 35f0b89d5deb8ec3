"""The document in a row of a table."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from framework.errors import SourceError


def text_of_row(row: dict[str, Any], field: str, where: str) -> str:
    """The document in a row.

    Raises:
        SourceError: the field is missing, or holds no text; ``where`` is the row, for the message.
    """
    if field not in row:
        raise missing_field(field, list(row), where)
    text = row[field]
    if not isinstance(text, str):
        found = "null" if text is None else f"a {type(text).__name__}"
        raise SourceError(
            f"{where}: field {field!r} is {found}, not text", fix="correct or remove that row, or set data.text_field"
        )
    return text


def missing_field(field: str, present: Sequence[str], where: str) -> SourceError:
    """The refusal of rows without the field; ``present`` are those that they have."""
    near = difflib.get_close_matches(field, present, n=1, cutoff=0.0)
    return SourceError(
        f"{where}: no field {field!r} (there: {', '.join(present) or 'none'})",
        fix=f"set data.text_field={near[0]}" if near else "name a file that has the field",
    )
