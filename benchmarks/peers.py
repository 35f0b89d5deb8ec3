"""The same work in other tools, in one run, in turns: medians, and a bootstrap interval of each ratio.

    make peers                                      installs them into an environment of their own, .venv-peers
    python -m benchmarks peers                      training loops, loaders and tokenizers
    python -m benchmarks peers training --rows 8 --layers 6 --width 256
    python -m benchmarks peers tokenizers --tokenizer gpt2_folder --text 'stories/*.txt'

Every tool is set up as its own documentation advises (benchmarks/sides/); the versions that took part stand in each line. What is
not installed is named and left out. ``zerostream_over_it`` is our speed over the peer's: above 1 we are faster.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.command import zerostream
from benchmarks.loader import add_work, measure_readers, write_tokens
from benchmarks.ratios import paired_ratio
from benchmarks.records import add_output, new_record, publish, summary
from benchmarks.sides import loading, tokenizing, training
from benchmarks.training_runs import write_tokenizer
from benchmarks.turns import Side, interleave, zerostream_side

ROOT = Path(__file__).parent.parent
PEERS_PYTHON = ROOT / ".venv-peers/bin/python"
OURS = {
    "zerostream": ("engine.kind=deepspeed", "engine.zero_stage=1"),
    "zerostream_compiled": ("engine.kind=deepspeed", "engine.zero_stage=1", "engine.compile=true"),
    "zerostream_compiled_bf16": (
        "engine.kind=deepspeed",
        "engine.zero_stage=1",
        "engine.compile=true",
        "engine.precision=bf16",
    ),
    "zerostream_reference_compiled": ("engine.kind=reference", "engine.compile=true"),
}
_NEEDS = {
    "lightning_tuned": "lightning",
    "litdata": "litdata",
    "mosaicml_streaming": "streaming",
    "tiktoken": "tiktoken",
}
_VERSIONS = (
    "torch",
    "transformers",
    "accelerate",
    "lightning",
    "litdata",
    "mosaicml-streaming",
    "webdataset",
    "datasets",
    "tiktoken",
)
_SEQUENCES = 20_000


def main() -> None:
    """Runs the parts that were asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("training", "loaders", "tokenizers")
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=list(parts), help="(default all)")
    parser.add_argument(
        "--python", type=Path, default=PEERS_PYTHON, help="of the peers' environment (default .venv-peers)"
    )
    parser.add_argument("--sides", nargs="+", help="only these, such as zerostream trainer litdata")
    model = parser.add_argument_group("training")
    for name, default in {
        "layers": 6,
        "width": 256,
        "heads": 8,
        "sequence": 256,
        "batch": 8,
        "vocabulary": 4096,
    }.items():
        model.add_argument(f"--{name}", type=int, default=default, help=f"(default {default})")
    model.add_argument("--training-steps", type=int, default=10, help="of a turn (default 10)")
    tokens = parser.add_argument_group("tokenizers")
    tokens.add_argument("--tokenizer", type=Path, help="folder with vocab.json and merges.txt (default: learned)")
    tokens.add_argument("--text", metavar="GLOB", help="text files (default: embedded stories)")
    add_work(parser.add_argument_group("loaders"))
    add_output(parser)
    arguments = parser.parse_args()
    run = {"training": _training, "loaders": _loaders, "tokenizers": _tokenizers}
    for part in arguments.parts:
        with tempfile.TemporaryDirectory() as folder:
            for record in run[part](Path(folder), arguments):
                publish(record, arguments.append)


def _pythons(sides: list[str], arguments: argparse.Namespace) -> dict[str, str]:
    """The interpreter of each side that was asked for and is installed."""
    chosen = {}
    for side in sides:
        if arguments.sides and side not in arguments.sides:
            continue
        ours = side not in _NEEDS
        python = sys.executable if ours else str(arguments.python)
        if ours or _has(python, _NEEDS[side]):
            chosen[side] = python
        else:
            print(f"{side} is left out: {python} has no {_NEEDS[side]}; `make peers` installs it", file=sys.stderr)
    return chosen


def _has(python: str, package: str) -> bool:
    program = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    return Path(python).exists() and subprocess.run([python, "-c", program], check=False).returncode == 0


def versions(python: str) -> dict[str, str | None]:
    """Of the peers that this interpreter has."""
    program = (
        "import json, sys\nfrom importlib.metadata import PackageNotFoundError, version\n"
        "def of(name):\n    try:\n        return version(name)\n    except PackageNotFoundError:\n        return None\n"
        "print(json.dumps({name: of(name) for name in sys.argv[1:]}))"
    )
    printed = subprocess.run([python, "-c", program, *_VERSIONS], capture_output=True, text=True, check=True).stdout
    found: dict[str, str | None] = json.loads(printed)
    return found


def _training(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    threads = len(os.sched_getaffinity(0))
    setting = training.Setting(
        arguments.vocabulary,
        arguments.layers,
        arguments.width,
        arguments.heads,
        arguments.sequence,
        arguments.batch,
        2e-3,
        threads,
    )
    config = _write_training_text(folder, setting)
    pythons = _pythons([*OURS, *training.SIDES], arguments)
    work = ["15", str(arguments.training_steps)]
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for name, python in pythons.items():
            if name in OURS:
                counts = {"warmup": 15, "steps": arguments.training_steps}
                side = zerostream_side(config, OURS[name], folder / name, threads=threads, **counts)
            else:
                gate = folder / f"gate-{name}"
                mine = [name, str(folder), str(gate), json.dumps(asdict(setting)), *work]
                environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
                side = Side([python, "-m", "benchmarks.sides.training", *mine], gate, environment=environment)
            sides[name] = stack.enter_context(side)
        print(f"{len(sides)} sides compile and warm up, one after the other ...", file=sys.stderr, flush=True)
        turns = interleave(sides, arguments.turns, optional=_NEEDS)
    return _records("peers_training", turns, pythons, asdict(setting))


def _write_training_text(folder: Path, setting: training.Setting) -> Path:
    """Embedded stories as shards and as an array; a config of the same model. Returns the config."""
    import numpy as np

    from framework.config import load_config
    from framework.data.corpus import load_corpus

    config = folder / "config.yaml"
    lines = [
        f"model: {{layers: {setting.layers}, width: {setting.width}, heads: {setting.heads}, "
        f"context_length: {setting.context}}}",
        f"tokenizer: {{kind: pretrained, path: {write_tokenizer(folder / 'tokenizer', setting.vocabulary)}}}",
        f"data: {{source: embedded, documents: {_SEQUENCES}, shards_dir: {folder / 'shards'}, lanes: 8}}",
        f"optimizer: {{lr: {setting.lr}}}",
        f"engine: {{micro_batch_size: {setting.rows}, global_batch_size: {setting.rows}}}",
        "logging: {every_steps: 1000, tensorboard: false}",
        "",
    ]
    config.write_text("\n".join(lines), encoding="utf-8")
    zerostream("prepare", config)
    documents = load_corpus(load_config(config, []).data).documents("train")
    np.save(folder / "tokens.npy", np.concatenate(list(documents)).astype(np.uint16))
    return config


def _loaders(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    write_tokens(folder, arguments.tokens * 2**20)
    pythons = _pythons([side for side in loading.SIDES if side != "zerostream_http"], arguments)
    records = measure_readers(folder, pythons, arguments, "peers_loaders")
    for record in records:
        record["versions"] = versions(pythons[record["setting"]["reader"]])
    return records


def _tokenizers(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    documents = _write_tokenizer_text(folder, arguments)
    pythons = _pythons(list(tokenizing.SIDES), arguments)
    with ExitStack() as stack:
        sides = {}
        for name, python in pythons.items():
            gate = folder / f"gate-{name}"
            command = [python, "-m", "benchmarks.sides.tokenizing", name, str(folder), str(gate), "1", "1"]
            sides[name] = stack.enter_context(Side(command, gate, environment={"PYTHONPATH": str(ROOT)}))
        turns = interleave(sides, arguments.turns, optional=_NEEDS)
    counted = {name: taken[0]["tokens"] for name, taken in turns.items()}
    if len(set(counted.values())) > 1:
        print(f"the tokenizers do not agree: {counted}", file=sys.stderr)
    setting = {"tokenizer": str(arguments.tokenizer or "learned").rsplit("/", 1)[-1], "documents": documents}
    return _records("peers_tokenizers", turns, pythons, setting)


def _write_tokenizer_text(folder: Path, arguments: argparse.Namespace) -> int:
    from framework.config import build_config
    from framework.data.embedded import generate_stories
    from framework.data.tokenizer import build_tokenizer

    if arguments.text:
        whole = "".join(Path(name).read_text(encoding="utf-8") for name in sorted(glob.glob(arguments.text)))
        texts = [text.strip() for text in whole.split("<|endoftext|>") if text.strip()]
    else:
        texts = list(generate_stories(10_000, seed=3))
    (folder / "documents.json").write_text(json.dumps(texts), encoding="utf-8")
    target = folder / "tokenizer"
    target.mkdir()
    if arguments.tokenizer:
        for name in ("vocab.json", "merges.txt"):
            (target / name).write_bytes((arguments.tokenizer / name).read_bytes())
    else:
        learned = build_tokenizer(build_config({}, origin="benchmark"), texts)
        learned.save(target)
        model = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
        (target / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
        (target / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return len(texts)


def _records(
    question: str, turns: Mapping[str, list[dict[str, float]]], pythons: Mapping[str, str], setting: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One line a side; the ratios are of our fastest side."""

    def speeds(name: str) -> list[float]:
        return [turn["tokens"] / turn["seconds"] for turn in turns[name]]

    ours = [name for name in turns if name.startswith("zerostream")]
    best = max(ours, key=lambda name: sorted(speeds(name))[len(speeds(name)) // 2], default=None)
    records = []
    for name, taken in turns.items():
        values: dict[str, Any] = {"tokens_per_second": summary(speeds(name))}
        values["cpu_seconds_per_million_tokens"] = summary(
            [1e6 * turn["cpu_seconds"] / turn["tokens"] for turn in taken]
        )
        if "bytes" in taken[0]:
            values["megabytes_per_second"] = summary([turn["bytes"] / turn["seconds"] / 1e6 for turn in taken])
        if "peak_memory_bytes" in taken[0]:
            values["measured_peak_bytes"] = round(max(turn["peak_memory_bytes"] for turn in taken))
        if best is not None and name not in ours:
            values["zerostream_over_it"] = {"side": best, **paired_ratio(speeds(best), speeds(name)).as_json()}
        record = new_record(question, {"side": name, **setting}, values, repeats=len(taken))
        records.append({**record, "versions": versions(pythons[name])})
    return records


if __name__ == "__main__":
    main()
