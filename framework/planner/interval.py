"""How far apart checkpoints should be. Young 1974, doi:10.1145/361147.361115; Daly 2006, doi:10.1016/j.future.2004.11.016."""

from __future__ import annotations

import math


def young_interval(save_seconds: float, failure_seconds: float) -> float:
    """Seconds of training between saves: sqrt(2 C M) (Young 1974)."""
    return math.sqrt(2 * save_seconds * failure_seconds)


def daly_interval(save_seconds: float, failure_seconds: float) -> float:
    """Seconds of training between saves, with Daly's terms of higher order; M itself when a save takes 2 M or more."""
    if save_seconds >= 2 * failure_seconds:
        return failure_seconds
    ratio = save_seconds / (2 * failure_seconds)
    return young_interval(save_seconds, failure_seconds) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - save_seconds


def useful_share(interval_seconds: float, save_seconds: float, restart_seconds: float, failure_seconds: float) -> float:
    """Useful part of all time in the long run; failures are exponential, and may strike during saves and restarts.

    t useful seconds take M e^(R/M) (e^((t + C)/M) - 1) of them (Daly 2006, his complete model of the run's time).
    """
    cycle = (interval_seconds + save_seconds) / failure_seconds
    restart = restart_seconds / failure_seconds
    # The inverse, with no exponent above 0: a save may take many times as long as nothing fails.
    return interval_seconds / failure_seconds * math.exp(-restart - cycle) / -math.expm1(-cycle)
