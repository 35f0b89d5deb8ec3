"""The ``zerostream`` command. Nothing heavy is imported before the command that needs it runs."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from framework.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_REFUSED, ZerostreamError
from framework.run_dir import RunDir
from launch.report import print_report
from launch.slurm import commands as slurm_commands

app = typer.Typer(
    name="zerostream",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train GPT-style language models, from a laptop's CPU to a cluster.\n\n"
    "Begin with `make quickstart`, or: [bold]prepare[/bold] turns text into shards, [bold]train[/bold] learns from them, "
    "[bold]board[/bold] shows it, [bold]generate[/bold] reads what was learned. Every key of a config can be set on the "
    "command line, such as `engine.zero_stage=2`.",
)

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML file, such as configs/quickstart.yaml.", show_default=False)
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY.PATH=VALUE", help="Overrides, such as train.max_steps=50.", show_default=False),
]
RunDirArgument = Annotated[
    Path, typer.Argument(metavar="RUN_DIR", help="A run's folder, such as runs/quickstart.", show_default=False)
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output; logs go to standard error.")
]
StepOption = Annotated[
    int | None, typer.Option(help="Use the checkpoint of this step, not the newest.", show_default=False)
]


@app.command()
def prepare(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="K/N", help="Do part K of N, counted from 1; the last one merges.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn text into shards: read the source, train or load the tokenizer, write tar shards and a manifest.

    Stopped at any moment, the same command goes on with the finished shards and ends with the same bytes. So does --part, by
    which processes on any number of machines with a shared file system divide the work.
    """
    from framework.config import load_config
    from launch.prepare import run_prepare

    run_prepare(
        load_config(config, overrides or []),
        as_json=as_json,
        config_name=" ".join([str(config), *(overrides or [])]),
        part=part,
    )


@app.command()
def train(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    nproc: Annotated[
        int, typer.Option(min=1, help="Ranks to start on this machine: one per GPU, or CPU processes.")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved config and the plan; start nothing.")
    ] = False,
    start_over: Annotated[
        bool, typer.Option("--start-over", help="Remove what this run has written, and begin again at step 0.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train on this machine, the same as `torchrun --nproc-per-node N -m framework.train CONFIG`.

    Started again, a run goes on from its newest checkpoint. Exit codes: 0 finished, 2 refused, 75 saved and wants to go on,
    1 failed.
    """
    from framework.config import dump_config, load_config

    loaded = load_config(config, overrides or [])
    if dry_run:
        from launch.dry_run import describe_run

        report = describe_run(loaded, nproc)
        if not as_json:
            report["config"] = dump_config(loaded)
        print_report(report, as_json)
        return
    from framework.metrics.device import refuse_missing_device
    from framework.train.preflight import check, refuse_live_copy, remove_outputs
    from launch.local import launch_ranks

    refuse_live_copy(RunDir(loaded.run_dir))
    if start_over:
        remove_outputs(RunDir(loaded.run_dir))
    check(loaded, nproc)
    refuse_missing_device(loaded)
    exit_code = launch_ranks(config, overrides or [], nproc, RunDir(loaded.run_dir))
    if as_json:
        _print_outcome(RunDir(loaded.run_dir), exit_code)
    raise typer.Exit(exit_code)


@app.command()
def plan(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="Ranks of each: one per GPU, or CPU processes.")] = 8,
    device: Annotated[str, typer.Option(help="b200, h200, h100, a100, cpu, ..., or one of --devices.")] = "h100",
    devices: Annotated[
        Path | None, typer.Option(help="YAML file of your own devices (docs/planning.md).", show_default=False)
    ] = None,
    tokens: Annotated[
        float | None, typer.Option(min=1, help="Budget of the run, such as 20e9.", show_default="train.max_steps steps")
    ] = None,
    price_per_gpu_hour: Annotated[
        float | None, typer.Option(min=0, help="Says what the run costs.", show_default=False)
    ] = None,
    mean_hours_between_failures: Annotated[
        float | None, typer.Option(min=0.01, help="Of any node: says how often to save.", show_default=False)
    ] = None,
    storage_gb_per_second: Annotated[float, typer.Option(min=0.001, help="That one node writes.")] = 1.0,
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="RESULTS", help="Fit speeds to these measured lines first.", show_default=False),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What --calibrate writes, and others read.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a run will need before it is paid for: memory by part, speed, hours, and which ZeRO stage to take.

    Starts nothing, needs no GPU and no torch: on a login node too.
    """
    from framework.config import load_config
    from launch.plan import PlanOptions, run_plan

    options = PlanOptions(
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        device=device,
        devices=devices,
        tokens=tokens,
        price_per_gpu_hour=price_per_gpu_hour,
        mean_hours_between_failures=mean_hours_between_failures,
        storage_gb_per_second=storage_gb_per_second,
        calibrate=calibrate,
        calibration=calibration,
    )
    run_plan(load_config(config, overrides or []), options, as_json=as_json)


@app.command()
def generate(
    run_dir: RunDirArgument,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="How the story begins; may be given again.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="0 always takes the likeliest token; 1 samples as the model believes.")
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(help="Sample from the k likeliest tokens only.", show_default=False)
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Sample from the likeliest tokens of this total probability.", show_default=False),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest continuation; it also stops at end-of-text.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the sampling: the same seed tells the same story.")] = 0,
    step: StepOption = None,
    as_json: JsonOption = False,
) -> None:
    """Continue prompts with what a run has learned, word by word."""
    from framework.model.generate import Sampling
    from framework.train.trained import generate_text, load_trained

    sampling = Sampling(temperature, top_k, top_p, max_tokens, seed)
    trained = load_trained(run_dir, step)
    stories = []
    for text in prompt or ["Once upon a time"]:
        pieces = generate_text(trained, text, sampling)
        if as_json:
            stories.append({"prompt": text, "text": "".join(pieces)})
            continue
        print(text, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print("\n")
    if as_json:
        print(json.dumps({"run_dir": str(run_dir), "step": trained.step, "stories": stories}, ensure_ascii=False))


@app.command()
def evaluate(
    run_dir: RunDirArgument,
    shards: Annotated[
        Path | None, typer.Option(help="Validation shards of this folder, not the run's own.", show_default=False)
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="Text file, folder or glob in UTF-8; may be given again.", show_default=False),
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(help="With --text: what stands between two documents.", show_default="<|endoftext|>"),
    ] = None,
    stories: Annotated[
        int | None, typer.Option(min=1, help="Sample so many stories and measure them.", show_default=False)
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", help="With --stories: how they begin; may be given again.", show_default="none"),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="With --stories: as in generate.", show_default="0.8")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="With --stories: as in generate.", show_default=False)] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="With --stories: longest continuation.", show_default="what the context holds")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="With --stories: of the first story; each next has the next.", show_default="0")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Tasks of EleutherAI's lm-eval, such as lambada_openai,piqa.", show_default=False),
    ] = None,
    task_folder: Annotated[
        Path | None,
        typer.Option(help="With --tasks: a folder of your own tasks' YAML files.", show_default=False),
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option(help="For a fine-tuned classifier: a file of labelled rows to score it on.", show_default=False),
    ] = None,
    step: StepOption = None,
    as_json: JsonOption = False,
) -> None:
    """Loss, perplexity and bits per byte on the validation shards, in float32; or on texts, stories, tasks and labels.

    --text, --stories and --tasks may stand together; the validation shards are then evaluated if --shards names them.
    """
    from launch.evaluate import EvaluateOptions, run_evaluate

    options = EvaluateOptions(
        run_dir=run_dir,
        step=step,
        shards=shards,
        texts=tuple(text or ()),
        separator=separator,
        stories=stories,
        prompts=tuple(prompt) if prompt else None,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        seed=seed,
        tasks=tasks,
        task_folder=task_folder,
        labelled=labelled,
    )
    run_evaluate(options, as_json=as_json)


@app.command()
def export(
    run_dir: RunDirArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.", show_default=False)],
    step: StepOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a Hugging Face folder: AutoModelForCausalLM and AutoTokenizer load it and give the same logits.

    A fine-tuned classifier is loaded by AutoModelForSequenceClassification.
    """
    from framework.train.preflight import recipe_of
    from framework.train.trained import export as export_trained
    from framework.train.trained import load_trained

    trained = load_trained(run_dir, step)
    export_trained(trained, folder)
    loaded_by = recipe_of(trained.config).loaded_by
    print_report(
        {"folder": str(folder), "step": trained.step, "load": f"{loaded_by}.from_pretrained({str(folder)!r})"}, as_json
    )


@app.command()
def verify(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="A folder of shards, a checkpoint's folder, or a run directory.", show_default=False
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Compare shards, a checkpoint or a whole run with their manifests, and say what is wrong. Nothing is changed.

    Exit codes: 0 all is well; 2 something is missing, damaged or does not belong there; the last line names the first.
    """
    from launch.verify import run_verify

    run_verify(path, as_json=as_json)


@app.command()
def board(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="One run, or a folder of runs.")] = Path("runs"),
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 6006,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 127.0.0.1 is reached through the ssh tunnel it prints.")
    ] = "127.0.0.1",
) -> None:
    """Start TensorBoard, and print the ssh tunnel line for a run on another machine."""
    from launch.board import serve_board

    serve_board(run_dir, host, port)


@app.command()
def schema() -> None:
    """Print the JSON schema of config files; editors use it to complete and check them."""
    from framework.config import config_json_schema

    print(config_json_schema(), end="")


for _function in (
    slurm_commands.submit,
    slurm_commands.status,
    slurm_commands.logs,
    slurm_commands.cancel,
    slurm_commands.resubmit,
    slurm_commands.jobs,
):
    app.command()(_function)


def main() -> NoReturn:
    """Runs the command line; a ``ZerostreamError`` becomes its last line and its exit code."""
    try:
        _add_plugin_commands()
        app(standalone_mode=True)
    except ZerostreamError as error:
        print(f"zerostream: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:  # a defect, ours or a dependency's: the traceback is what helps
        traceback.print_exc()
        print(f"zerostream: {type(error).__name__}: {error}. To fix it: read the traceback above.", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        print("zerostream: interrupted. To fix it: run the same command again.", file=sys.stderr)
        sys.exit(1)
    sys.exit(EXIT_REFUSED)  # not reached: standalone mode exits


def _add_plugin_commands() -> None:
    """Once more changes nothing."""
    from framework.plugins.registry import installed_plugins

    there = {
        command.name or getattr(command.callback, "__name__", ""): command.callback
        for command in app.registered_commands
    }
    for plugin in installed_plugins().values():
        for name, function in plugin.commands.items():
            if there.setdefault(name, function) is not function:
                from framework.errors import PluginError

                raise PluginError(
                    f"plugin {plugin.name} brings a command {name!r} that is taken", fix="uninstall one of the two"
                )
            if all(command.callback is not function for command in app.registered_commands):
                app.command(name)(function)


def _print_outcome(run_dir: RunDir, exit_code: int) -> None:
    """``result.json`` as one line, or how far a run came that has none."""
    if exit_code == EXIT_FINISHED:
        print(json.dumps(json.loads(run_dir.result.read_text(encoding="utf-8")), ensure_ascii=False))
        return
    status = "preempted" if exit_code == EXIT_PREEMPTED else "failed"
    saved = max(run_dir.checkpoint_steps(), default=0)
    print(json.dumps({"status": status, "exit_code": exit_code, "saved_step": saved, "run_dir": str(run_dir.path)}))


if __name__ == "__main__":
    main()
