"""A recipe of an outside package: installed by its entry point alone, and trained by the session that trains all runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from framework.config import load_config
from framework.data.embedded.stories import generate_stories
from framework.data.stream import IGNORED_TARGET
from framework.errors import UserError
from framework.metrics.records import read_json_lines
from framework.plugins.lora.examples import Example
from framework.plugins.registry import installed_plugins
from framework.train import preflight
from framework.train.preflight import Preflight
from tests.packages import install, run_python
from tests.starts import Zygote

EXAMPLE = Path(__file__).with_name("example_recipe.py")
STEPS = 6
CONFIG = f"""\
run_dir: run
model: {{layers: 1, width: 32, heads: 2, context_length: 256, dropout: 0.1}}
tokenizer: {{vocab_size: 300}}
data: {{lanes: 4}}
optimizer: {{lr: 1.0e-2}}
schedule: {{warmup_steps: 1}}
engine: {{kind: reference, micro_batch_size: 4, global_batch_size: 8}}
train: {{max_steps: {STEPS}, eval_every_steps: 3}}
checkpoint: {{every_steps: 3}}
logging: {{tensorboard: false}}
plugins: {{denoise: {{path: sentences.txt}}}}
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    source = EXAMPLE.read_text(encoding="utf-8")
    install(folder / "site", "denoise", "zerostream_denoise:plugin", "zerostream_denoise", source)
    sentences = {story.split(".")[0] for story in generate_stories(80, seed=5)}
    short = sorted(sentence for sentence in sentences if "\n" not in sentence and len(sentence) < 80)
    assert len(short) > 40
    (folder / "sentences.txt").write_text("\n".join(short), encoding="utf-8")
    (folder / "denoise.yaml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def train(folder: Path, zygote: Zygote) -> Run:
    """One rank: ``framework.train.session.train``, without an agent around it."""

    def run(*overrides: str) -> subprocess.CompletedProcess[str]:
        return run_python(
            folder, folder / "site", "-m", "framework.train", "denoise.yaml", *overrides, python=zygote.python
        )

    return run


@pytest.fixture(scope="module")
def trained(folder: Path, train: Run) -> Path:
    finished = train()
    assert finished.returncode == 0, finished.stderr
    assert "test rows" in finished.stderr
    return folder / "run"


def steps_of(run_dir: Path) -> list[tuple[Any, ...]]:
    return [(line["step"], line["loss"], line["batch_digest"]) for line in read_json_lines(run_dir / "metrics.jsonl")]


def test_it_learns_what_the_recipe_asks(trained: Path) -> None:
    result = json.loads((trained / "result.json").read_text())
    assert (result["status"], result["step"]) == ("finished", STEPS)
    losses = [line["loss"] for line in read_json_lines(trained / "eval.jsonl")]
    assert len(losses) == 2
    assert losses[1] < losses[0] < 5.7  # ln 300, what a model that knows nothing has


@pytest.mark.slow
def test_stopped_and_started_again_it_takes_the_same_steps(trained: Path, folder: Path, train: Run) -> None:
    stopped = train("run_dir=again", "train.stop_at_step=3")
    assert stopped.returncode == 75, stopped.stderr
    assert len(steps_of(folder / "again")) == 3
    finished = train("run_dir=again")
    assert finished.returncode == 0, finished.stderr
    assert steps_of(folder / "again") == steps_of(trained)


def test_generate_reads_it(trained: Path, folder: Path, zygote: Zygote) -> None:
    words = ["-m", "launch.cli", "generate", "run", "--prompt", "L_ly saw a c_t =>"]
    finished = run_python(folder, folder / "site", *words, python=zygote.python)
    assert finished.returncode == 0, finished.stderr


@pytest.fixture
def check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Preflight]]:
    """What every start does first, in this process, with the package installed."""
    monkeypatch.syspath_prepend(str(folder / "site"))
    monkeypatch.chdir(folder)
    installed_plugins.cache_clear()
    yield lambda *overrides: preflight.check(load_config(folder / "denoise.yaml", overrides), 1)
    installed_plugins.cache_clear()
    sys.modules.pop("zerostream_denoise", None)


def test_only_answers_are_targets(folder: Path, check: Callable[..., Preflight]) -> None:
    found = check("run_dir=unused")
    tokenizer = found.recipe.tokenizer
    examples: Sequence[Example] = found.recipe.stream(found.plan, 0).examples  # type: ignore[attr-defined]
    sentences = (folder / "sentences.txt").read_text(encoding="utf-8").splitlines()
    for example in examples:
        asked = example.targets[example.targets != IGNORED_TARGET].tolist()
        assert asked[-1] == tokenizer.end_of_text_id
        answer = tokenizer.decode(asked[:-1])
        assert answer[1:] in sentences
        read = tokenizer.decode(example.input_ids.tolist())
        assert read.endswith(f" =>{answer}")
        assert len(read) == len(f"{answer[1:]} =>{answer}")
    lost = sum(tokenizer.decode(example.input_ids.tolist()).count("_") for example in examples)
    letters = sum(letter.isalpha() for sentence in sentences for letter in sentence)
    assert 0.05 < lost / letters < 0.25


def test_other_sentences_do_not_go_on_with_the_run(
    trained: Path, folder: Path, check: Callable[..., Preflight]
) -> None:
    found = check()
    assert found.newest_checkpoint is not None
    assert found.newest_checkpoint.step == STEPS
    text = (folder / "sentences.txt").read_text(encoding="utf-8")
    (folder / "others.txt").write_text(f"{text}\nOne more came", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        check("plugins.denoise.path=others.txt")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("plugins.denoise.path=nowhere.txt", "nowhere.txt cannot be read"),
        ("model.context_length=8", "model.context_length is 8"),
        ("plugins.denoise.lost=2", "plugins.denoise.lost is 2"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    folder: Path, check: Callable[..., Preflight], override: str, said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        check("run_dir=refused", override)
    assert caught.value.exit_code == 2
    assert not (folder / "refused").exists()


def test_its_check_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from framework.config import load_config; "
        "from framework.train.preflight import check; check(load_config(Path('denoise.yaml')), 1); "
        "sys.exit('torch' in sys.modules)"
    )
    finished = run_python(folder, folder / "site", "-c", code)
    assert finished.returncode == 0, finished.stderr
