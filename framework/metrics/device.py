"""What this machine can compute on, known before any rank starts.

Not in ``framework.engine``, whose import takes transformers in: ``zerostream train`` asks this, and its ranks wait for it.
"""

from __future__ import annotations

from framework.config.schema import Config
from framework.errors import ConfigError


def refuse_missing_device(config: Config) -> None:
    """Refuses a precision that this machine cannot compute in.

    Raises:
        ConfigError: fp16 without a GPU.
    """
    if config.engine.precision == "fp16":
        import torch  # only here: asking costs the seconds that a start takes anyway

        if not torch.cuda.is_available():
            raise ConfigError(
                "engine.precision fp16 needs a GPU, and there is none", fix="set engine.precision=bf16 or fp32"
            )
