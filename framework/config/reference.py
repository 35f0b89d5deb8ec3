"""``docs/configuration.md``, rendered from the schema: ``python -m framework.config.reference > docs/configuration.md``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from framework.config.load import identity
from framework.config.presets import MODEL_PRESETS
from framework.config.schema import Config

_TITLE = """\
# Configuration

<!-- Made from framework/config/schema.py by `python -m framework.config.reference > docs/configuration.md`. -->

A run is one YAML file. Every key has a default, so a file says only what it means; the files in
[configs/](../configs) are examples. On the command line, `key.path=value` sets a key after the file was read, and
later ones win:

```
zerostream train configs/quickstart.yaml engine.zero_stage=2 train.max_steps=50 --dry-run
```

`--dry-run` starts nothing: it prints every key as it was resolved, the batch arithmetic, and what a start would do.
Unknown keys, wrong types and combinations that cannot work are refused with exit code 2; the message names the key, the
value and what to write instead.

## Batch arithmetic

```
engine.global_batch_size = engine.micro_batch_size x accumulation x ranks
```

Accumulation follows from the other three and must come out whole. The number of ranks must also divide `data.lanes`.
With the default of 64 lanes, 1, 2, 4, ... 64 ranks fit; for 3, 6 or 12 ranks choose, say, 48 lanes before the run
begins.

## What may change when a run goes on

Keys marked *fixed* make the run what it is: a run directory refuses another value for them. All others may change from
start to start. A checkpoint is read back by as many ranks as wrote it, at the same `engine.kind`, `engine.zero_stage`
and `engine.precision`; once there is one, other values of these four are refused as well.

## Completion in an editor

```
zerostream schema > zerostream.schema.json
```

Editors that use yaml-language-server complete and check a config whose first line is

```yaml
# yaml-language-server: $schema=../zerostream.schema.json
```

with the path relative to the config.
"""

_PRESETS_TITLE = """\
## Model presets

`model.preset` fills in the keys that the config does not give itself.

| preset | layers | width | heads | context_length |
| --- | --- | --- | --- | --- |
"""

_BOUNDS = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
"""Attributes of the constraints that pydantic keeps with a field."""
_NAMES: Mapping[Any, str] = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}


def config_reference() -> str:
    """All keys of a config with type, default and meaning, as the Markdown of ``docs/configuration.md``."""
    parts = [_TITLE, *_sections(Config, prefix="", title="Top level", about=""), _presets()]
    return "\n".join(parts)


def _sections(section: type[BaseModel], *, prefix: str, title: str, about: str) -> Iterator[str]:
    """The table of ``section``, then those of the sections below it."""
    rows = ["| key | type | default | fixed | what |", "| --- | --- | --- | --- | --- |"]
    below = []
    for name, field in section.model_fields.items():
        inner = _section_of(field)
        if inner is None:
            rows.append(_row(f"{prefix}{name}", field))
        else:
            below.append((f"{prefix}{name}", inner))
    introduction = f"{about}\n\n" if about else ""
    yield f"## {title}\n\n{introduction}" + "\n".join(rows) + "\n"
    for path, inner in below:
        about = " ".join((inner.__doc__ or "").split())
        yield from _sections(inner, prefix=f"{path}.", title=path, about=about)


def _row(key: str, field: FieldInfo) -> str:
    default = _describe_default(field.get_default(call_default_factory=True))
    cells = (
        f"`{key}`",
        _describe_type(field.annotation, field.metadata),
        default,
        _is_fixed(key),
        field.description or "",
    )
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _is_fixed(key: str) -> str:
    """Whether the key belongs to a run's identity."""
    values: Any = identity(Config())
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return ""
        values = values[part]
    return "fixed"


def _describe_type(annotation: Any, metadata: list[Any]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _describe_type(arguments[0], [*arguments[1:], *metadata])
    if origin in (Union, UnionType):
        kinds = [_describe_type(each, []) for each in arguments if each is not NoneType]
        return " or ".join([*kinds, "null"] if NoneType in arguments else kinds)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {_describe_type(arguments[0], [])}"
    if origin is dict:
        return "section"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        keys = (
            f"{name}: {_describe_type(key.annotation, key.metadata)}" for name, key in annotation.model_fields.items()
        )
        return f"`{{{', '.join(keys)}}}`"
    return " ".join([_NAMES[annotation], *_describe_bounds(metadata)])


def _describe_bounds(metadata: list[Any]) -> Iterator[str]:
    for attribute, word in _BOUNDS.items():
        for constraint in metadata:
            bound = getattr(constraint, attribute, None)
            if bound is not None:
                yield f"{word} {bound:g}"


def _describe_default(value: Any) -> str:
    if isinstance(value, str | Path):
        return f"`{value}`"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value)}`"


def _presets() -> str:
    columns = ("layers", "width", "heads", "context_length")
    rows = [
        "| " + " | ".join([f"`{name}`", *(f"{sizes[column]}" for column in columns)]) + " |"
        for name, sizes in MODEL_PRESETS.items()
    ]
    return _PRESETS_TITLE + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(config_reference(), end="")
