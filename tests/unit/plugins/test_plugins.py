from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from framework.config import build_config
from framework.errors import PluginError, SourceError
from framework.metrics.records import read_json_lines
from framework.plugins import registry
from framework.plugins.interface import Plugin
from framework.plugins.registry import active_plugins, installed_plugins
from launch import cli
from tests.packages import install, run_zerostream
from tests.unit.conftest import RunCli

EXAMPLE = Path(__file__).with_name("example_plugin.py")

CONFIG = """\
run_dir: run
model: {architecture: bigram, context_length: 32}
tokenizer: {vocab_size: 300}
data: {source: countdown, documents: 60, shards_dir: shards, shard_tokens: 2000, validation_fraction: 0.1, lanes: 4}
schedule: {warmup_steps: 1}
engine: {kind: reference, micro_batch_size: 2, global_batch_size: 4}
train: {max_steps: 2, eval_every_steps: 1, eval_max_sequences: 8, sample_prompts: ["3 bottles"], sample_max_tokens: 5}
logging: {tensorboard: false}
plugins: {tiny: {width: 12}}
"""


# --- The example plugin, through the real command line ---

Zerostream = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    install(folder / "site", "tiny", "zerostream_tiny:plugin", "zerostream_tiny", EXAMPLE.read_text(encoding="utf-8"))
    (folder / "tiny.yaml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def zerostream(folder: Path) -> Zerostream:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_zerostream(folder, folder / "site", *arguments)

    return run


@pytest.fixture(scope="module")
def prepared(zerostream: Zerostream) -> dict[str, object]:
    finished = zerostream("prepare", "tiny.yaml", "--json")
    assert finished.returncode == 0, finished.stderr
    report: dict[str, object] = json.loads(finished.stdout)
    return report


@pytest.fixture(scope="module")
def trained(zerostream: Zerostream, folder: Path, prepared: dict[str, object]) -> Path:
    finished = zerostream("train", "tiny.yaml", "--nproc", "1", "--json")
    assert finished.returncode == 0, finished.stderr
    return folder / "run"


def test_its_command_runs_with_its_options(zerostream: Zerostream) -> None:
    finished = zerostream("tiny", "--count", "5")
    assert (finished.returncode, finished.stdout) == (0, "5, 4, 3, 2, 1\n"), finished.stderr


def test_labelled_rows_are_scored_by_the_plugin_of_the_run_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli
) -> None:
    """Not by the first that is installed and could."""

    def plugin(name: str, *, scores: bool) -> Plugin:
        scoring = (lambda run_dir, file: ({"by": name}, name)) if scores else None
        return Plugin(name=name, evaluate_labelled=scoring)

    found = {"a": plugin("a", scores=True), "b": plugin("b", scores=True), "c": plugin("c", scores=False)}
    monkeypatch.setattr(registry, "installed_plugins", lambda: found)
    for run, name in (("run", "b"), ("folds/fold-1", "a"), ("silent", "c")):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "config.yaml").write_text(f"run_dir: {run}\nplugins: {{{name}: {{}}}}\n")
    for run, name in (("run", "b"), ("folds", "a")):
        scored = run_cli("evaluate", tmp_path / run, "--labelled", tmp_path / "rows.csv", "--json")
        assert (scored.code, json.loads(scored.out)["by"]) == (0, name)
    for run, cause in (
        ("silent", "trained without a plugin that scores labelled rows"),
        ("nowhere", "no run directory"),
    ):
        refused = run_cli("evaluate", tmp_path / run, "--labelled", tmp_path / "rows.csv")
        assert refused.code == 2
        assert cause in refused.last_line


def test_its_source_is_prepared(prepared: dict[str, dict[str, dict[str, int]]]) -> None:
    splits = prepared["splits"]
    assert splits["train"]["documents"] + splits["validation"]["documents"] == 60


def test_its_model_is_trained_and_its_options_reach_it(trained: Path) -> None:
    result = json.loads((trained / "result.json").read_text())
    assert (result["status"], result["step"]) == ("finished", 2)
    assert result["parameters"] == 300 * 12 + 12 * 300 + 300
    losses = [line["loss"] for line in read_json_lines(trained / "metrics.jsonl")]
    assert len(losses) == 2
    assert all(0 < loss < 10 for loss in losses)


def test_its_hook_is_called_at_every_point(trained: Path) -> None:
    names = "bits_per_byte, bits_per_token, loss, perplexity"
    assert json.loads((trained / "diary.json").read_text()) == [
        "start 0",
        "step 1",
        f"evaluate 1: {names}",
        "step 2",
        f"evaluate 2: {names}",
        "finish 2",
    ]


def test_its_metric_stands_in_every_evaluation(trained: Path) -> None:
    evaluations = read_json_lines(trained / "eval.jsonl")
    assert [line["step"] for line in evaluations] == [1, 2]
    for line in evaluations:
        assert line["bits_per_token"] == pytest.approx(line["loss"] / math.log(2))


# --- In this process ---


def test_options_may_be_a_function_that_returns_their_model(monkeypatch: pytest.MonkeyPatch) -> None:
    class Limits(BaseModel):
        limit: float = 1.0

    found = {name: Plugin(name=name, options=options) for name, options in (("now", Limits), ("later", lambda: Limits))}
    monkeypatch.setattr(registry, "installed_plugins", lambda: found)
    for name in found:
        [active] = active_plugins(build_config({"plugins": {name: {"limit": 2}}}, origin="test"))
        assert active.options == Limits(limit=2.0)
        with pytest.raises(PluginError, match=f"plugins.{name}.limit is 'much'"):
            active_plugins(build_config({"plugins": {name: {"limit": "much"}}}, origin="test"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages; what this process knows of plugins and commands is as before afterwards."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    commands, modules = list(cli.app.registered_commands), set(sys.modules)
    installed_plugins.cache_clear()
    yield site
    installed_plugins.cache_clear()
    cli.app.registered_commands[:] = commands
    for name in set(sys.modules) - modules:
        if name.startswith("zerostream_"):
            del sys.modules[name]


@pytest.fixture
def installed(site: Path) -> Path:
    install(site, "tiny", "zerostream_tiny:plugin", "zerostream_tiny", EXAMPLE.read_text(encoding="utf-8"))
    return site


def activate(**plugins: object) -> None:
    active_plugins(build_config({"plugins": plugins}, origin="test"))


def test_a_config_without_its_section_does_not_use_it(installed: Path) -> None:
    assert "tiny" in installed_plugins()
    assert active_plugins(build_config({}, origin="test")) == ()


def test_options_are_validated_and_defaults_filled(installed: Path) -> None:
    (active,) = active_plugins(build_config({"plugins": {"tiny": {"width": 3}}}, origin="test"))
    assert (active.plugin.name, active.options.width, active.options.diary) == ("tiny", 3, "diary.json")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"width": "wide"}, "plugins.tiny.width is 'wide'"), ({"depth": 3}, "plugins.tiny.depth is 3")],
)
def test_bad_options_are_refused_by_key(installed: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(PluginError, match=said) as caught:
        activate(tiny=options)
    assert caught.value.exit_code == 2


def test_a_plugin_that_is_not_installed_is_refused_with_those_that_are(installed: Path) -> None:
    with pytest.raises(PluginError, match=r"plugins\.tine is not installed \(found: .*tiny"):
        activate(tine={})


def test_a_source_of_a_plugin_that_takes_no_part_is_refused(installed: Path, tmp_path: Path) -> None:
    from framework.data.prepare import prepare

    values = {"data": {"source": "countdown", "shards_dir": str(tmp_path / "shards")}}
    with pytest.raises(SourceError, match="countdown") as caught:
        prepare(build_config(values, origin="test"))
    assert "plugin" in caught.value.fix
    assert not (tmp_path / "shards").exists()


def test_options_for_a_plugin_without_any_are_refused(site: Path) -> None:
    source = "from framework.plugins.interface import Plugin\nplugin = Plugin(name='plain')\n"
    install(site, "plain", "zerostream_plain:plugin", "zerostream_plain", source)
    activate(plain={})
    with pytest.raises(PluginError, match=r"plugins\.plain takes no options, but has a, b"):
        activate(plain={"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("target", "source", "said"),
    [
        ("zerostream_bad:plugin", "import a_module_that_is_not_there\n", "a_module_that_is_not_there"),
        ("zerostream_bad:plugin", "raise OSError('at import')\n", "at import"),
        ("zerostream_bad:plugin", "plugin = 3\n", "is not a Plugin of that name"),
        (
            "zerostream_bad:plugin",
            "from framework.plugins.interface import Plugin\nplugin = Plugin(name='other')\n",
            "is not a Plugin of that name",
        ),
        ("zerostream_bad:missing", "plugin = 3\n", "does not load"),
        ("zerostream_nowhere:plugin", "", "does not load"),
    ],
)
def test_a_plugin_that_does_not_load_is_named_by_every_command(
    site: Path, run_cli: Callable[..., Any], target: str, source: str, said: str
) -> None:
    install(site, "bad", target, "zerostream_bad", source)
    with pytest.raises(PluginError) as caught:
        installed_plugins()
    assert said in caught.value.cause
    assert f"bad ({target})" in caught.value.cause
    installed_plugins.cache_clear()
    result = run_cli("schema")
    assert result.code == 2
    assert f"bad ({target})" in result.last_line


def test_a_command_name_that_is_taken_is_refused(site: Path, run_cli: Callable[..., Any]) -> None:
    source = (
        "from framework.plugins.interface import Plugin\nplugin = Plugin(name='thief', commands={'train': print})\n"
    )
    install(site, "thief", "zerostream_thief:plugin", "zerostream_thief", source)
    result = run_cli("schema")
    assert result.code == 2
    assert "plugin thief brings a command 'train' that is taken" in result.last_line


def test_two_plugins_with_one_command_are_refused(installed: Path, run_cli: Callable[..., Any]) -> None:
    source = "from framework.plugins.interface import Plugin\nplugin = Plugin(name='uncle', commands={'tiny': print})\n"
    install(installed, "uncle", "zerostream_uncle:plugin", "zerostream_uncle", source)
    result = run_cli("schema")
    assert result.code == 2
    assert "plugin uncle brings a command 'tiny' that is taken" in result.last_line


def test_its_command_is_listed_with_its_help(installed: Path, run_cli: Callable[..., Any]) -> None:
    result = run_cli("--help")
    assert "Count down." in result.out
