"""A config that somebody has sent: whatever stands in it, it runs nothing (docs/security.md)."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from framework.config import load_config
from framework.errors import ConfigError

ROOT = Path(__file__).parents[3]
RunCli = Callable[..., Any]

TAGS = [
    "!!python/object/apply:os.system ['touch ran']",
    "!!python/object/new:os.system ['touch ran']",
    '!!python/object/apply:builtins.eval [\'__import__("os").system("touch ran")\']',
    "!!python/name:os.system",
    "!!python/module:os",
    "!run touch ran",
]
COMMANDS = [
    "$(touch ran)",
    "`touch ran`",
    "; touch ran;",
    "| touch ran",
    "|touch ran",
    "pipe:touch ran",
    "a && touch ran",
]


def write_config(folder: Path, text: str) -> Path:
    path = folder / "sent.yaml"
    path.write_text(text)
    return path


# --- YAML ---


def test_the_attack_works_where_yaml_is_loaded_without_care(canary: Path) -> None:
    yaml.load(TAGS[0], Loader=yaml.UnsafeLoader)
    assert canary.exists()
    canary.unlink()


@pytest.mark.parametrize("command", ["prepare", "train"])
@pytest.mark.parametrize("tag", TAGS)
def test_a_yaml_tag_is_refused(run_cli: RunCli, canary: Path, tag: str, command: str) -> None:
    config = write_config(canary.parent, f"seed: {tag}\n")
    result = run_cli(command, config)
    assert result.code == 2
    assert "could not determine a constructor for the tag" in result.last_line
    assert [path.name for path in canary.parent.iterdir()] == ["sent.yaml"]


@pytest.mark.parametrize("tag", TAGS)
def test_a_yaml_tag_in_an_override_is_text(run_cli: RunCli, canary: Path, tag: str) -> None:
    result = run_cli("train", write_config(canary.parent, ""), f"seed={tag}")
    assert result.code == 2
    assert "seed is " in result.last_line


# --- Code of models ---

CODE_KEYS: list[tuple[str, object]] = [
    ("auto_map", {"AutoModelForCausalLM": "modeling.Evil"}),
    ("trust_remote_code", True),
    ("name_or_path", "somebody/model"),
    ("code_revision", "main"),
    ("attn_implementation", "somebody/kernel"),
    ("experts_implementation", "somebody/kernel"),
    ("use_kernels", True),
    ("_attn_implementation", "somebody/kernel"),
    ("_name_or_path", "somebody/model"),
    ("text_config", {"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}}),
    ("layers_config", [{"trust_remote_code": True}]),
]


@pytest.mark.parametrize(("key", "value"), CODE_KEYS, ids=[key for key, _ in CODE_KEYS])
def test_a_key_that_names_code_is_refused_and_named(canary: Path, key: str, value: object) -> None:
    config = write_config(canary.parent, json.dumps({"model": {"overrides": {key: value}}}))
    with pytest.raises(ConfigError) as caught:
        load_config(config)
    assert caught.value.cause.startswith(f"model.overrides.{key}")
    assert "load code, which no config may do" in caught.value.cause
    assert "plugin" in caught.value.fix


@pytest.mark.parametrize("section", ["", "model.", "tokenizer.", "data.", "engine.", "model.overrides."])
def test_trust_remote_code_is_refused_wherever_it_stands(canary: Path, section: str) -> None:
    with pytest.raises(ConfigError, match="trust_remote_code"):
        load_config(write_config(canary.parent, ""), [f"{section}trust_remote_code=true"])


def test_ordinary_overrides_are_taken(canary: Path) -> None:
    config = load_config(write_config(canary.parent, ""), ["model.overrides.num_key_value_heads=4"])
    assert config.model.overrides == {"num_key_value_heads": 4}


def test_a_folder_of_code_is_no_architecture(run_cli: RunCli, canary: Path, tiny_config: Path) -> None:
    (canary.parent / "evil").mkdir()
    (canary.parent / "evil" / "__init__.py").write_text("import os; os.system('touch ran')")
    for architecture in ("evil", "./evil", "evil.Model"):
        result = run_cli("train", tiny_config, f"model.architecture={architecture}", "run_dir=run", "--dry-run")
        assert result.code == 2
        assert f"model.architecture '{architecture}' is no causal language model" in result.last_line


@pytest.mark.parametrize("name", ["os", "os:system", "evil", "../evil"])
def test_a_plugin_is_what_is_installed_and_nothing_else(
    run_cli: RunCli, canary: Path, tiny_config: Path, name: str
) -> None:
    (canary.parent / "evil.py").write_text("import os; os.system('touch ran')")
    config = write_config(canary.parent, tiny_config.read_text() + json.dumps({name: {}}).join(["plugins: ", "\n"]))
    result = run_cli("train", config, "run_dir=run", "--dry-run")
    assert result.code == 2
    assert f"plugins.{name} is not installed" in result.last_line


# --- Paths ---


@pytest.mark.parametrize("value", COMMANDS)
@pytest.mark.parametrize(
    "key", ["data.path", "data.validation_path", "tokenizer.path", "data.remote", "data.separator", "data.text_field"]
)
def test_a_path_is_a_path(run_cli: RunCli, canary: Path, key: str, value: str) -> None:
    (canary.parent / "text.txt").write_text("a story\n" * 50)
    settings = {"data.source": "text", "data.path": "text.txt", "data.shards_dir": "shards", key: value}
    if key == "tokenizer.path":
        settings["tokenizer.kind"] = "pretrained"
    arguments = [f"{name}={json.dumps(setting)}" for name, setting in settings.items()]
    run_cli("prepare", write_config(canary.parent, "tokenizer: {vocab_size: 300}"), *arguments)
    run_cli("train", write_config(canary.parent, ""), *arguments, "--dry-run")


@pytest.mark.parametrize("value", COMMANDS)
def test_folders_may_have_any_name(run_cli: RunCli, canary: Path, value: str) -> None:
    config = write_config(
        canary.parent, "data: {source: embedded, documents: 60, validation_fraction: 0.2}\ntokenizer: {vocab_size: 300}"
    )
    folders = [f"data.shards_dir={json.dumps(value)}", f"run_dir={json.dumps('run ' + value)}"]
    assert run_cli("prepare", config, *folders).code == 0
    assert (canary.parent / value / "manifest.json").is_file()
    assert run_cli("train", config, *folders, "--dry-run").code == 0
    assert run_cli("verify", value).code == 0


# --- Hub data sets ---


def test_a_loading_script_of_a_data_set_is_refused(run_cli: RunCli, canary: Path) -> None:
    folder = canary.parent / "stories"
    folder.mkdir()
    (folder / "stories.py").write_text("import os; os.system('touch ran')")
    (folder / "text.txt").write_text("a story")
    config = write_config(canary.parent, "data: {source: hub, path: stories, shards_dir: shards}")
    for path in ("stories", "stories/stories.py"):
        result = run_cli("prepare", config, f"data.path={path}", "data.hub_split=train")
        assert result.code == 2
        assert "Dataset scripts are no longer supported" in result.last_line


# --- The source itself ---

DANGEROUS = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen", "torch.load"}
UNPICKLERS = {"pickle", "dill", "cloudpickle", "joblib", "runpy"}


def test_nothing_in_the_source_could_run_what_it_reads() -> None:
    """No call that unpickles, evaluates or hands text to a shell; a new one has to be argued for here."""
    found = []
    for folder in ("framework", "launch"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    found += [f"{path.relative_to(ROOT)}: {each}" for each in dangers(node)]
                elif isinstance(node, ast.Import | ast.ImportFrom):
                    modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                    found += [f"{path.relative_to(ROOT)}: {name}" for name in modules if name in UNPICKLERS]
    assert found == []


def dangers(call: ast.Call) -> list[str]:
    name = ast.unparse(call.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    bad = [name] if name in DANGEROUS else []
    bad += [f"{name}(shell=...)"] if keywords.get("shell", "False") != "False" else []
    # Written out, False refuses; left out, transformers would ask whoever sits at the terminal.
    bad += [f"{name}(trust_remote_code=...)"] if keywords.get("trust_remote_code", "False") != "False" else []
    bad += [f"{name}(allow_pickle=True)"] if keywords.get("allow_pickle", "False") != "False" else []
    return bad
