"""The commands for runs on a SLURM cluster. What they need is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output; logs go to standard error.")
]


def submit(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file, such as configs/quickstart.yaml.", show_default=False)
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
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the sbatch script, the batch arithmetic and the memory; ask nothing."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train on a SLURM cluster: the job saves, goes back into the queue and goes on by itself until the run has finished.

    Nothing is queued or written if something does not fit (exit code 2). Afterwards `zerostream status`, `logs` and `cancel` take
    the run directory.
    """
    from launch.slurm.submit import Request, run_submit

    request = Request(
        config=config,
        overrides=tuple(overrides or ()),
        cluster=cluster,
        nodes=nodes,
        ranks_per_node=ranks_per_node,
        time_limit=time_limit,
        command=command,
    )
    run_submit(request, dry_run=dry_run, as_json=as_json)
