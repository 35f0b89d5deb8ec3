"""``zerostream submit --dry-run``: the exact script, the batch arithmetic and the memory, and nothing is queued or written."""

from __future__ import annotations

import json
from typing import Any

from launch.slurm import scheduler
from launch.slurm.memory import describe_memory
from launch.slurm.planning import Plan, Request, plan_job
from launch.slurm.script import batch_script

_SECONDS = 10.0  # to find out whether SLURM answers
_WORDS = 120  # characters of what SLURM complains about


def show_plan(request: Request, *, as_json: bool) -> None:
    """Asks SLURM if it answers, and does without it elsewhere.

    Raises:
        UserError: as a submission would be refused.
    """
    silence = _why_nobody_answers()
    plan = plan_job(request, ask_cluster=not silence)
    report = _describe(plan, silence)
    script = batch_script(plan.job, plan.run_dir)
    if as_json:
        print(json.dumps({**report, "script": script}, ensure_ascii=False))
        return
    width = max(map(len, report))
    for key, value in report.items():
        print(f"{key:<{width}}  {value}")
    print("\n" + script)


def _why_nobody_answers() -> str:
    try:
        scheduler.require_commands()
        scheduler.read_partitions(seconds=_SECONDS)
    except scheduler.SchedulerError as error:
        return error.cause
    return ""


def _describe(plan: Plan, silence: str) -> dict[str, Any]:
    job = plan.job
    partition = job.profile.partition or "the default partition"
    report = {
        "run": str(plan.run_dir),
        "job": f"{_count(job.nodes, 'node')} x {_count(job.ranks_per_node, 'rank')} on {partition}, "
        f"at most {job.time_limit} a start",
    }
    if job.tasks:
        report["array"] = f"{len(job.tasks)} tasks"
    if plan.batch is not None:
        report["step"] = str(plan.batch)
    if plan.loaded is not None and plan.batch is not None:
        report["memory"] = describe_memory(plan.loaded, job)
    if silence:
        report["cluster"] = f"not asked: {silence[:_WORDS]}{'...' if len(silence) > _WORDS else ''}"
    return report


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
