"""What a rank really holds between two steps, tensor by tensor, is what the planner says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from framework.config import Config, load_config
from framework.planner.shape import shape_of
from framework.planner.states import BUCKET_ELEMENTS, states_of
from tests.distributed.conftest import Runs, StartRanks
from tests.packages import install

pytestmark = pytest.mark.distributed

RANKS = 2
CASES = [(stage, precision, "adamw") for stage in range(4) for precision in ("fp32", "bf16")]
CASES += [(0, "bf16", "muon"), (1, "fp32", "muon"), (1, "bf16", "muon"), (3, "fp32", "muon")]
_PLUGIN = '''
import gc, json, os
from pathlib import Path

import torch

from framework.plugins.interface import Plugin


_of_jobs_before = []  # DeepSpeed lets an engine go late; kept, so that nobody gets their memory


def _storages():
    gc.collect()
    found = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            for tensor in (thing, thing.grad if thing.is_leaf else None):
                if tensor is not None:
                    storage = tensor.untyped_storage()
                    found[storage.data_ptr()] = storage
    return found


class CountHook:
    """Bytes of every tensor's memory that is alive after a step, each memory once."""

    def __init__(self, config):
        self._file = Path(config.run_dir, f"held-{os.environ['RANK']}.json")

    def on_start(self, step): ...

    def on_step(self, record):
        before = {storage.data_ptr() for storage in _of_jobs_before}
        sizes = [storage.nbytes() for address, storage in _storages().items() if address not in before]
        self._file.write_text(json.dumps(sizes))

    def on_evaluate(self, step, metrics): ...

    def on_finish(self, step):
        _of_jobs_before[:] = _storages().values()


plugin = Plugin(name="count_held", hooks=lambda config, options: [CountHook(config)])
'''


def config_of(config: Path, stage: int, precision: str, optimizer: str) -> list[str]:
    # Wide enough that ZeRO-3 shares nearly all of it out: it keeps what has fewer than 100,000 elements on every rank.
    sizes = ["model.width=512", "model.layers=2", "model.heads=4", "train.max_steps=2"]
    engine = [f"engine.zero_stage={stage}", f"engine.precision={precision}"]
    return [str(config), *sizes, *engine, f"optimizer.kind={optimizer}"]


def name_of(stage: int, precision: str, optimizer: str) -> str:
    return f"{stage}-{precision}-{optimizer}"


@pytest.fixture(scope="module")
def runs(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory, start_ranks: StartRanks) -> Runs:
    folder, site = tmp_path_factory.mktemp("states"), tmp_path_factory.mktemp("site")
    install(site, "count_held", "count_held_plugin:plugin", "count_held_plugin", _PLUGIN)
    jobs = {
        name_of(*case): [*config_of(tiny_config, *case), f"run_dir={folder / name_of(*case)}", "plugins.count_held={}"]
        for case in CASES
    }
    return start_ranks(RANKS, jobs, folder, {"PYTHONPATH": str(site)})


@pytest.mark.parametrize(("stage", "precision", "optimizer"), CASES)
def test_a_rank_holds_what_is_planned(
    stage: int, precision: str, optimizer: str, runs: Runs, tiny_config: Path
) -> None:
    name = name_of(stage, precision, optimizer)
    assert runs.outcomes[name]["exit_code"] == 0, runs.outcomes[name]["message"]
    path, *overrides = config_of(tiny_config, stage, precision, optimizer)
    config: Config = load_config(Path(path), overrides)
    always = states_of(config, shape_of(config), RANKS, on_host=True).always
    planned = sum(count for part, count in always.items() if part != "communication")
    buckets = {2 * BUCKET_ELEMENTS, 4 * BUCKET_ELEMENTS}  # address space, of which only what is written to is memory
    for rank in range(RANKS):
        sizes = json.loads((runs.path(name) / f"held-{rank}.json").read_text())
        assert sum(size for size in sizes if size not in buckets) == pytest.approx(planned, rel=0.01)
