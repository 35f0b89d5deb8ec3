"""How fast text becomes shards: MB/s and documents/s of the real ``zerostream prepare``.

    python -m benchmarks prepare                              20 MB of embedded stories, a BPE of them; one core, and all
    python -m benchmarks prepare --text 'stories/*.txt' --tokenizer path/to/gpt2 --cores 1 2 4

The command runs as a user runs it, in a process bound to so many cores, into a new folder each time. Its seconds count from the
end of its imports, which stand beside them; learning a tokenizer is among them. One JSON line a number of cores.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.records import add_output, new_record, publish, summary
from framework.errors import UserError

_MEGABYTE = 10**6
_PROGRAM = """
import sys, time
from launch import cli
import framework.data.prepare
print(time.time(), file=sys.stderr)
cli.main()
"""


def main() -> None:
    """One line for each number of cores; they take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--text", metavar="GLOB", help="text files with <|endoftext|> between documents (default: embedded)"
    )
    parser.add_argument("--megabytes", type=float, default=20.0, help="of embedded stories (default 20)")
    parser.add_argument("--tokenizer", help="pretrained, in place of learning one of 4,096")
    parser.add_argument(
        "--cores", type=int, nargs="+", default=sorted({1, len(os.sched_getaffinity(0))}), help="(default 1, all)"
    )
    parser.add_argument("--turns", type=int, default=5, help="of each (default 5)")
    add_output(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        _write_text(text, arguments)
        config = _write_config(Path(folder), text, arguments.tokenizer)
        taken: dict[int, list[dict[str, float]]] = {cores: [] for cores in arguments.cores}
        for turn in range(arguments.turns):
            for cores in arguments.cores if turn % 2 == 0 else reversed(arguments.cores):
                print(f"turn {turn + 1}, {cores} cores ...", file=sys.stderr, flush=True)
                taken[cores].append(_prepare(config, Path(folder, "shards"), cores))
        megabytes = text.stat().st_size / _MEGABYTE
    for cores, turns in taken.items():
        setting = {
            "cores": cores,
            "megabytes": round(megabytes, 2),
            "tokenizer": arguments.tokenizer or "learned, at most 4,096",
        }
        setting["text"] = arguments.text or "embedded"
        values = {
            "megabytes_per_second": summary([megabytes / turn["seconds"] for turn in turns]),
            "documents_per_second": summary([turn["documents"] / turn["seconds"] for turn in turns]),
            "seconds": summary([turn["seconds"] for turn in turns]),
            "import_seconds": summary([turn["import_seconds"] for turn in turns]),
        }
        publish(new_record("prepare", setting, values, repeats=arguments.turns), arguments.append)


def _write_text(path: Path, arguments: argparse.Namespace) -> None:
    with path.open("w", encoding="utf-8") as file:
        if arguments.text:
            for name in sorted(glob.glob(arguments.text)):
                file.write(Path(name).read_text(encoding="utf-8"))
            return
        from framework.data.embedded import MAX_STORIES, generate_stories

        written = 0
        for story in generate_stories(MAX_STORIES, seed=1):
            written += file.write(f"{story}\n<|endoftext|>\n")
            if written >= arguments.megabytes * _MEGABYTE:
                return


def _write_config(folder: Path, text: Path, tokenizer: str | None) -> Path:
    chosen = f"{{kind: pretrained, path: {tokenizer}}}" if tokenizer else "{kind: train_bpe}"
    config = folder / "config.yaml"
    lines = (f"tokenizer: {chosen}", f"data: {{source: text, path: {text}, shards_dir: {folder / 'shards'}}}", "")
    config.write_text("\n".join(lines), encoding="utf-8")
    return config


def _prepare(config: Path, shards: Path, cores: int) -> dict[str, float]:
    shutil.rmtree(shards, ignore_errors=True)
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    command = [sys.executable, "-c", _PROGRAM, "prepare", str(config), "--json"]
    began = time.time()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=lambda: os.sched_setaffinity(0, chosen)
    )
    if done.returncode:
        raise UserError(f"prepare ended with {done.returncode}: {done.stderr.strip()}", fix="see its last line")
    ended, imported = time.time(), float(done.stderr.split()[0])
    report: dict[str, Any] = json.loads(done.stdout)
    return {"seconds": ended - imported, "import_seconds": imported - began, "documents": _documents(report)}


def _documents(report: dict[str, Any]) -> int:
    return sum(split["documents"] for split in report["splits"].values())


if __name__ == "__main__":
    main()
