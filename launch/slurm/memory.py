"""Whether a rank's share of the model fits into what it runs on, before anybody waits in a queue for it."""

from __future__ import annotations

import shlex

from framework.config import Config
from framework.errors import UserError
from launch.slurm.job import Job
from launch.slurm.profile import Profile, memory_megabytes

_TOO_MUCH = "DOES NOT FIT: "


def warn_of_memory(config: Config, job: Job) -> str | None:
    """The line of ``describe_memory`` if a rank needs more than there is."""
    said = describe_memory(config, job)
    return said if said.startswith(_TOO_MUCH) else None


def describe_memory(config: Config, job: Job) -> str:
    """One line: what a rank needs at its peak, and of what; or why that is not known. A plan errs by some percent: no refusal."""
    from framework.planner import device_named, plan_memory  # reads its table of devices

    name = _device_name(job.profile)
    if name is None:
        return "not planned: the cluster profile does not say what its GPUs are (`device`)"
    try:
        device = device_named(name)
        if device.is_host and job.profile.memory not in (None, "0"):
            device = device.model_copy(update={"memory_bytes": memory_megabytes(job.profile.memory or "0") * 2**20})
        planned = plan_memory(config, job.ranks_per_node, job.nodes, device)
    except UserError as error:
        return f"not planned: {error.cause}"
    needed, there = planned.peak_bytes / 2**30, planned.usable_bytes / 2**30
    of = f"a node's share ({device.name})" if device.is_host else device.name
    said = f"{needed:.2f} GiB at the peak of a rank, of {there:.1f} GiB that {of} has"
    if planned.fits:
        return said
    return f"{_TOO_MUCH}{said}, {planned.missing_words}; `zerostream plan CONFIG --device {shlex.quote(name)}` shows what would"


def _device_name(profile: Profile) -> str | None:
    """As the profile says it, else from ``gpu:h100:8``, else the node's own cores."""
    if profile.device is not None:
        return profile.device
    for part in (profile.gres or "").split(","):
        words = part.split(":")
        if words[0] == "gpu":
            return words[1] if len(words) > 2 or (len(words) == 2 and not words[1].isdigit()) else None
    return None if profile.gpus_per_node else "cpu"
