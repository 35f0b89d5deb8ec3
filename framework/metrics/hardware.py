"""Memory, versions, and the arithmetic rate a device can reach."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

# Dense tensor-core rates from the vendors' data sheets, FLOP/s: bf16 and fp16, then fp32 (TF32 off).
_DEVICE_PEAK_FLOPS = {
    "B200": (2250e12, 80e12),
    "H200": (989e12, 67e12),
    "H100 PCIe": (756e12, 51e12),
    "H100": (989e12, 67e12),
    "A100": (312e12, 19.5e12),
    "L40S": (362e12, 91.6e12),
    "L4": (121e12, 30.3e12),
    "A10": (125e12, 31.2e12),
    "V100": (125e12, 15.7e12),
    "T4": (65e12, 8.1e12),
}
_PACKAGES = (
    "torch",
    "deepspeed",
    "transformers",
    "datasets",
    "tokenizers",
    "webdataset",
    "tensorboard",
    "submitit",
    "numpy",
)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def peak_flops(device: torch.device, precision: str) -> float:
    """FLOP/s one rank can reach: from the data sheet for a known GPU, else measured by a matrix product (~0.3 s)."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for known, (low, full) in _DEVICE_PEAK_FLOPS.items():
            if known in name:
                return full if precision == "fp32" else low
    return _measure_matmul_flops(device, _DTYPES[precision])


def _measure_matmul_flops(device: torch.device, dtype: torch.dtype, size: int = 512, seconds: float = 0.2) -> float:
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    matrix @ matrix
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def training_flops_per_token(
    parameters: int,
    embedding_parameters: int,
    layers: int,
    width: int,
    context_length: int,
    *,
    frozen_parameters: int = 0,
) -> float:
    """Forward and backward FLOPs of one token: 6 per weight in a matrix product, and 12 x layers x width x context for
    attention (Chowdhery et al. 2022, PaLM, arXiv:2204.02311, appendix B). Look-ups count nothing, the output matrix does; a
    frozen weight has no gradient of its own, and counts 4."""
    in_products = parameters - embedding_parameters
    return 6.0 * in_products - 2.0 * min(frozen_parameters, in_products) + 12.0 * layers * width * context_length


def peak_memory_bytes(device: torch.device) -> int:
    """Largest memory so far: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def describe_environment(world_size: int, device: torch.device) -> dict[str, Any]:
    """Versions, hardware and git revision, for ``environment.json``."""
    return {
        "zerostream": _version("zerostream"),
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "world_size": world_size,
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
