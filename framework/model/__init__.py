"""Causal language models, their loss and log-probabilities, and text generation. A sibling of data: imports neither it nor up."""

import sys
from collections.abc import Callable
from pathlib import Path

# What transformers takes in where it is installed, for object detection and for a kind of generation that nothing here uses.
_NOT_NEEDED = ("scipy", "sklearn")


def _import_transformers() -> None:
    """Before anybody else does, and as if these packages were not there: a quarter of what a rank would hold in memory after its
    imports, and a second or two of each start (docs/experiments.md). They can be imported afterwards.
    """
    if "transformers" in sys.modules:  # it has looked what there is, and would miss what was hidden now
        return
    hidden = [name for name in _NOT_NEEDED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is Python's way to say that there is none
    try:
        import transformers.generation.candidate_generator

        _import_list_of_models()
        import transformers.modeling_utils  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]


def _import_list_of_models() -> None:
    """``transformers.models``, with what ``transformers`` has just found out: alone, it reads its 1,500 files once more for the
    names of their classes, 0.3 s of processor time of every rank (docs/experiments.md)."""
    import transformers
    from transformers.utils import import_utils

    folder = Path(transformers.__file__).parent / "models"
    name = "create_import_structure_from_path"  # remembers its last results, by path
    read: Callable[[object], object] | None = getattr(import_utils, name, None)
    if read is None:  # a transformers that does it otherwise
        return
    setattr(import_utils, name, lambda path: read(folder if Path(path) == folder / "__init__.py" else path))
    try:
        import transformers.models
    finally:
        setattr(import_utils, name, read)


_import_transformers()
