"""The commands for runs on a SLURM cluster. What they need is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output; logs go to standard error.")
]

RunDirArgument = Annotated[
    Path, typer.Argument(metavar="RUN_DIR", help="A run's folder, such as runs/quickstart.", show_default=False)
]


def submit(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            help="YAML file, such as configs/quickstart.yaml; or a benchmark, such as benchmarks.checkpoint, whose own "
            "options follow after `--`.",
            show_default=False,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY.PATH=VALUE", help="Overrides, such as train.max_steps=50.", show_default=False),
    ] = None,
    cluster: Annotated[
        Path,
        typer.Option(metavar="CLUSTER.yaml", help="What the cluster is like: slurm/profiles has examples."),
    ] = Path("slurm/profiles/local.yaml"),
    nodes: Annotated[int | None, typer.Option(min=1, help="Nodes.", show_default="the profile's")] = None,
    ranks_per_node: Annotated[
        int | None, typer.Option(min=1, help="Ranks of each node.", show_default="one per GPU, or 1")
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option("--time", help="Longest time of one start, such as 2:00:00.", show_default="the profile's"),
    ] = None,
    command: Annotated[
        str,
        typer.Option(help="What the job does with CONFIG: train, finetune or prepare."),
    ] = "train",
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY.PATH=VALUE,VALUE",
            help="One run for each value, in one array; given again, for every combination.",
            show_default=False,
        ),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(min=1, help="With --command prepare: an array of so many parts.", show_default=False),
    ] = None,
    at_a_time: Annotated[
        int | None, typer.Option(min=1, help="Of an array: tasks that may run at a time.", show_default="all")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the sbatch script, the batch arithmetic and the memory; queue and write nothing."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train on a SLURM cluster: the job saves, goes back into the queue and goes on by itself until the run has finished.

    Nothing is queued or written if something does not fit (exit code 2). Afterwards `zerostream status`, `logs` and `cancel` take
    the run directory.
    """
    from launch.slurm.submit import Request, run_submit
    from launch.slurm.sweep import array_tasks

    request = Request(
        config=config,
        overrides=tuple(overrides or ()),
        cluster=cluster,
        nodes=nodes,
        ranks_per_node=ranks_per_node,
        time_limit=time_limit,
        command=command,
        tasks=array_tasks(command, sweep or (), tasks),
        array_parallelism=at_a_time,
    )
    run_submit(request, dry_run=dry_run, as_json=as_json)


def status(run_dir: RunDirArgument, as_json: JsonOption = False) -> None:
    """How a run is: queued, running, finished or why not; its step, speed and loss, the time left, and the next command.

    Asks SLURM for ten seconds at most, and tells what the run directory says if it does not answer. Of a sweep it shows all runs.
    """
    from launch.slurm.status import run_status

    run_status(run_dir, as_json=as_json)


def logs(
    run_dir: RunDirArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, over requeues, until the run has ended.")
    ] = False,
    all_ranks: Annotated[
        bool, typer.Option("--all", help="Every rank and every node's agent, each line with its name; else rank 0.")
    ] = False,
    restart: Annotated[
        int | None, typer.Option(min=0, help="0 is the first start of the run.", show_default="the newest")
    ] = None,
) -> None:
    """What the ranks of a submitted run say."""
    from launch.slurm.logs import run_logs

    run_logs(run_dir, follow=follow, all_ranks=all_ranks, restart=restart)


def cancel(
    run_dir: RunDirArgument,
    now: Annotated[bool, typer.Option("--now", help="Do not let it save first.")] = False,
    wait: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="How long it may take to save before it is ended anyway.")
    ] = 300,
    as_json: JsonOption = False,
) -> None:
    """End a submitted run: it saves at the end of its step, ends, and does not start again. Waits until it has ended.

    Exit codes: 0 it has ended; 1 SLURM still has it, or could not be asked.
    """
    from launch.slurm.cancel import run_cancel

    run_cancel(run_dir, at_once=now, wait_seconds=wait, as_json=as_json)


def resubmit(
    run_dir: RunDirArgument,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY.PATH=VALUE",
            help="Keys that may change from start to start, such as engine.micro_batch_size=8.",
            show_default=False,
        ),
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Nodes.", show_default="as before")] = None,
    ranks_per_node: Annotated[
        int | None, typer.Option(min=1, help="Ranks of each node.", show_default="as before")
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option("--time", help="Longest time of one start, such as 2:00:00.", show_default="as before"),
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option(metavar="CLUSTER.yaml", help="Another profile.", show_default="as before")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let a run that has ended go on from its newest checkpoint, on more or fewer nodes if you like.

    Of an array, every task that has not finished. The config is the one that was submitted, the code the present one.
    """
    from launch.slurm.resubmit import Change, run_resubmit

    run_resubmit(run_dir, Change(nodes, ranks_per_node, time_limit, cluster, tuple(overrides or ())), as_json=as_json)


def jobs(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR]...", help="Folders with runs below them.", show_default="runs")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """All submitted runs below some folders, and how they are."""
    from launch.slurm.jobs import run_jobs

    run_jobs(folders or [Path("runs")], as_json=as_json)
