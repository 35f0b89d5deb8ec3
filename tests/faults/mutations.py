"""Shows that the matrix would notice: takes away one safeguard at a time, in a copy, and expects scenarios to fail.

python -m tests.faults.mutations
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.faults.starts import ROOT

COPIED = ("framework", "launch", "tests")


@dataclass(frozen=True)
class Mutation:
    """What is taken away: each edit replaces text that must be there; and a pattern of scenarios that must then fail."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    scenarios: str


MUTATIONS = (
    Mutation(
        "checkpoints are written in place, without a rename",
        (
            ("framework/checkpoint/store.py", 'target.with_name(target.name + ".tmp")', "target"),
            ("framework/checkpoint/store.py", "if target.exists():", "if target != temporary:"),
            ("framework/checkpoint/store.py", "temporary.rename(target)", "pass"),
        ),
        "SIGKILL of rank 0 zero2 bf16",
    ),
    Mutation(
        "files of a checkpoint are not synced",
        (("framework/checkpoint/fragments.py", "os.fsync(file.fileno())", "pass"),),
        "power cut",
    ),
    Mutation(
        "checkpoints are not verified",
        (
            (
                "framework/checkpoint/manifest.py",
                "    manifest = load_manifest(folder)\n",
                "    manifest = load_manifest(folder)\n    return manifest\n",
            ),
        ),
        "checkpoint file with a flipped bit|two newest",
    ),
    Mutation(
        "numbers that are not finite reach the weights (reference engine)",
        (("framework/engine/reference.py", "if torch.isfinite(norm):", "if norm is not None:"),),
        "NaN loss reference fp32",
    ),
    Mutation(
        "numbers that are not finite reach the weights (ZeRO stage 0, fp32)",
        (("framework/engine/deepspeed_engine.py", "if math.isfinite(norm):", "if norm is not None:"),),
        "NaN loss zero0 fp32",
    ),
)


def main() -> int:
    """1 when a safeguard can be taken away unnoticed, or its scenarios fail with it in place."""
    patterns = "|".join(mutation.scenarios for mutation in MUTATIONS)
    unnoticed = []
    with tempfile.TemporaryDirectory(prefix="mutations-") as name:
        folder = Path(name)
        output, passed = _judge(_copy(folder / "unchanged"), patterns)
        print(f"{'ok    ' if passed else 'FAILED'} with all safeguards, these scenarios pass", flush=True)
        if not passed:
            print(output)
            return 1
        for number, mutation in enumerate(MUTATIONS):
            tree = _copy(folder / str(number))
            for path, old, new in mutation.edits:
                text = (tree / path).read_text(encoding="utf-8")
                if old not in text:
                    raise ValueError(f"{path} no longer holds {old!r}: bring tests/faults/mutations.py in step with it")
                (tree / path).write_text(text.replace(old, new), encoding="utf-8")
            output, passed = _judge(tree, mutation.scenarios)
            # Failing is not enough: a copy that cannot even be imported fails as well.
            noticed = not passed and "FAILED" in output
            print(f"{'ok    ' if noticed else 'FAILED'} noticed that {mutation.name}", flush=True)
            if noticed:
                print(*(line for line in output.splitlines() if line.startswith("    ")), sep="\n", flush=True)
            else:
                unnoticed.append(mutation.name)
                print(output)
    return 1 if unnoticed else 0


def _copy(folder: Path) -> Path:
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def _judge(tree: Path, scenarios: str) -> tuple[str, bool]:
    """Runs the matching scenarios on the code of ``tree``; the working folder comes first where Python looks."""
    command = [sys.executable, "-m", "tests.faults", "--only", scenarios]
    result = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
    return result.stdout, result.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
