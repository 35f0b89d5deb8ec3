"""SLURM's reasons in plain words: why a job waits, or why it ended."""

from __future__ import annotations

_WORDS = {
    "Priority": "other jobs come first",
    "Resources": "waits for nodes to become free",
    "Dependency": "waits for the job before it to end",
    "DependencyNeverSatisfied": "will never start: the job it depends on did not end as it should; cancel and resubmit it",
    "BeginTime": "SLURM holds a requeued job back for a moment, or its begin time has not come",
    "Cleaning": "SLURM still clears up after the start before",
    "Prolog": "the nodes run SLURM's prolog",
    "JobHeldUser": "held; `scontrol release` lets it go",
    "JobHeldAdmin": "held by an administrator",
    "JobArrayTaskLimit": "as many tasks of its array run as may run at once",
    "JobLaunchFailure": "a node could not start it",
    "ReqNodeNotAvail": "a node that it asks for is down, drained or reserved",
    "NodeDown": "a node that it needs is down",
    "Reservation": "waits for its reservation",
    "Licenses": "waits for a licence",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition takes no jobs",
    "PartitionNodeLimit": "asks for more or fewer nodes than its partition allows",
    "PartitionTimeLimit": "asks for more time than its partition allows",
    "InvalidAccount": "its account is not valid",
    "InvalidQOS": "its quality of service is not valid",
    "AccountNotAllowed": "its account may not use this partition",
    "BadConstraints": "no node has what it asks for",
    "NodeFail": "a node failed",
    "TimeLimit": "its time was up",
    "OutOfMemory": "took more memory than it had asked for",
    "NonZeroExitCode": "ended with an exit code other than 0",
    "RaisedSignal": "was ended by a signal",
    "SystemFailure": "SLURM or a node failed",
}
_BEGINNINGS = {
    "Nodes required for job are DOWN, DRAINED": "nodes that it needs are down, drained, or kept for jobs of a higher partition",
    "Nodes_required_for_job_are_DOWN": "nodes that it needs are down, drained, or kept for jobs of a higher partition",
    "ReqNodeNotAvail": _WORDS["ReqNodeNotAvail"],
    "launch failed requeued held": "SLURM could not start it and holds it; `scontrol release` lets it try again",
    "job requeued in held state": "requeued and held; `scontrol release` lets it go",
    "QOS": "a limit of its quality of service is reached",
    "Assoc": "a limit of its account is reached",
    "MaxCpuPerAccount": "a limit of its account is reached",
}


def in_plain_words(reason: str) -> str:
    """What SLURM's ``reason`` means, with its own word behind it; empty if SLURM gives none."""
    own = reason.strip(" ()")
    if own in ("", "None"):
        return ""
    words = _WORDS.get(own) or next((words for start, words in _BEGINNINGS.items() if own.startswith(start)), None)
    return f"{words} ({own})" if words else own
