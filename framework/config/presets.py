"""Model sizes by name. The GPT-2 family is from Radford et al. 2019, table 2; the smaller ones are ours, for CPUs."""

from __future__ import annotations

MODEL_PRESETS: dict[str, dict[str, str | int]] = {
    "gpt2_nano": {"architecture": "gpt2", "layers": 4, "width": 128, "heads": 4, "context_length": 256},
    "gpt2_micro": {"architecture": "gpt2", "layers": 4, "width": 192, "heads": 6, "context_length": 256},
    "gpt2_mini": {"architecture": "gpt2", "layers": 6, "width": 256, "heads": 8, "context_length": 256},
    "gpt2_small": {"architecture": "gpt2", "layers": 12, "width": 768, "heads": 12, "context_length": 1024},
    "gpt2_medium": {"architecture": "gpt2", "layers": 24, "width": 1024, "heads": 16, "context_length": 1024},
    "gpt2_large": {"architecture": "gpt2", "layers": 36, "width": 1280, "heads": 20, "context_length": 1024},
    "gpt2_xl": {"architecture": "gpt2", "layers": 48, "width": 1600, "heads": 25, "context_length": 1024},
}
