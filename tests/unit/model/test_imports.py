"""What a rank imports before it trains is time and memory of every start."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import ROOT

_PROGRAM = """
import json, sys
import framework.train.session, deepspeed
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
import sklearn.linear_model, scipy.optimize  # what was passed over can still be had
import framework.plugins.lora.tfidf
"""


def test_a_rank_imports_no_more_than_it_needs() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"torch", "transformers", "deepspeed"} <= imported
    assert not imported & {"sklearn", "scipy", "pandas", "pyarrow", "matplotlib", "datasets", "peft"}
