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


_LISTS = """
import json, sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
import framework.model
models = [path for path in opened if "/transformers/models/" in path and path.endswith(".py")]
import transformers
from transformers.utils import import_utils
import_utils.create_import_structure_from_path.cache_clear()
import_utils.define_import_structure.cache_clear()
found = import_utils.define_import_structure(transformers.models.__file__)
alone = import_utils._LazyModule("alone", transformers.models.__file__, found, module_spec=transformers.models.__spec__)
same = all(
    getattr(alone, name) == getattr(transformers.models, name)
    for name in ("_class_to_module", "_import_structure", "_modules", "_object_missing_backend")
) and set(alone.__all__) == set(transformers.models.__all__)
print(json.dumps([len(models), len(set(models)), same]))
"""


def test_the_files_of_models_are_read_once_and_say_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", _LISTS], cwd=ROOT, capture_output=True, text=True, check=True)
    reads, files, same = json.loads(done.stdout.splitlines()[-1])
    assert files > 100
    assert reads < 1.5 * files
    assert same


def test_who_has_imported_transformers_before_gets_what_is_there() -> None:
    program = "import transformers, framework.model; from transformers.utils import is_scipy_available as a; print(a())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"
