"""Shows that the matrix would notice: takes away one safeguard at a time, in a copy, and expects scenarios to fail.

python -m tests.faults.mutations
python -m tests.faults.mutations --only DeepSpeed
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.starts import ROOT

COPIED = ("framework", "launch", "tests")


@dataclass(frozen=True)
class Mutation:
    """What is taken away: each edit replaces text that must be there; and a pattern of scenarios that must then fail."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    scenarios: str


_LAST_IMPORT = "from deepspeed.utils import logger as deepspeed_logger\n"


def _without_check_of(optimizer: str, scenarios: str) -> Mutation:
    """From stage 1 on the last check of the gradients is DeepSpeed's: the copy takes it out of ``module:class``."""
    module, _, name = optimizer.partition(":")
    edit = (
        f"import {module} as checked\n"
        "checked.is_invalid_grad_norm = lambda norm: False\n"
        f"checked.{name}.check_overflow = lambda self, *_, **__: None\n"
    )
    return Mutation(
        f"numbers that are not finite reach the weights (DeepSpeed's {name}: {scenarios})",
        (("framework/engine/deepspeed_engine.py", _LAST_IMPORT, _LAST_IMPORT + edit),),
        scenarios,
    )


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
    _without_check_of("deepspeed.runtime.bf16_optimizer:BF16_Optimizer", "infinite loss zero1 bf16"),
    _without_check_of("deepspeed.runtime.zero.stage_1_and_2:DeepSpeedZeroOptimizer", "NaN loss zero1 fp32"),
    _without_check_of("deepspeed.runtime.zero.stage_1_and_2:DeepSpeedZeroOptimizer", "infinite loss zero2 bf16"),
    _without_check_of("deepspeed.runtime.zero.stage3:DeepSpeedZeroOptimizer_Stage3", "NaN loss zero3 fp32"),
    _without_check_of("deepspeed.runtime.zero.stage3:DeepSpeedZeroOptimizer_Stage3", "infinite loss zero3 bf16"),
)


def main() -> int:
    """1 when a safeguard can be taken away unnoticed, or its scenarios fail with it in place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mutations whose name matches this pattern")
    only = parser.parse_args().only
    mutations = [mutation for mutation in MUTATIONS if re.search(only, mutation.name)]
    patterns = "|".join(mutation.scenarios for mutation in mutations)
    unnoticed = []
    with tempfile.TemporaryDirectory(prefix="mutations-") as name:
        folder = Path(name)
        output, passed = _judge(_copy(folder / "unchanged"), patterns)
        print(f"{'ok    ' if passed else 'FAILED'} with all safeguards, these scenarios pass", flush=True)
        if not passed:
            print(output)
            return 1
        for number, mutation in enumerate(mutations):
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
                why = [line for line in output[output.rindex("\nFAILED") :].splitlines() if line.startswith("    ")]
                print(why[0][:200], flush=True)
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
