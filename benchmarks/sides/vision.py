"""Two peers import torchvision without looking at a picture."""

from __future__ import annotations

from contextlib import suppress


def let_torchvision_import() -> None:
    """The torchvision of PyPI is built for CUDA: beside torch for CPUs its import ends for want of two operators, declared here.

    Does nothing where it is not installed, or fits.
    """
    import torch

    with suppress(ModuleNotFoundError):
        try:
            import torchvision
        except RuntimeError:
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _KEPT.append(library)
            import torchvision  # noqa: F401


_KEPT: list[object] = []
"""A library's declarations last as long as it does."""
