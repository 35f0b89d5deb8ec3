"""Causal language models, their loss and log-probabilities, and text generation. A sibling of data: imports neither it nor up."""

import sys

# What transformers takes in where it is installed, for object detection and for a kind of generation that nothing here uses.
_NOT_NEEDED = ("scipy", "sklearn")


def _import_transformers() -> None:
    """Before anybody else does, and as if these packages were not there: a quarter of what a rank would hold in memory after its
    imports, and a second or two of each start (docs/experiments.md). They can be imported afterwards.
    """
    hidden = [name for name in _NOT_NEEDED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is Python's way to say that there is none
    try:
        import transformers.generation.candidate_generator
        import transformers.modeling_utils  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]


_import_transformers()
