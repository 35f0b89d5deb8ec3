"""What the documentation says is there: commands, options, keys, configs, links."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel

from framework.config.reference import config_reference
from framework.config.schema import Config
from launch.cli import _add_plugin_commands, app
from launch.slurm.profile import Profile
from launch.slurm.state import ALIVE, OVER

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
NOT_OURS = {"data", "runs", "build", "dist"}
KEYS_OF_ANY_NAME = ("model.overrides.", "plugins.")

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CONFIG_PATH = re.compile(r"\bconfigs/[\w.-]+\.yaml\b")
OVERRIDE = re.compile(r"([a-z_]+(?:\.[a-z_]+)*)=")


def markdown_files() -> list[Path]:
    found = []
    for folder, names, files in os.walk(ROOT):
        is_top = Path(folder) == ROOT
        names[:] = [name for name in names if not name.startswith(".") and not (is_top and name in NOT_OURS)]
        found += [Path(folder) / file for file in files if file.endswith(".md")]
    return sorted(found)


def described_files() -> list[Path]:
    """Those that tell a reader what to type."""
    return [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after ``zerostream`` of every command in code blocks and inline code."""
    lines = [line for _, block in FENCE.findall(text) for line in block.splitlines()]
    lines += INLINE.findall(FENCE.sub("", text))
    for line in lines:
        for part in line.split("&&"):
            words = shlex.split(part, comments=True) if part.count('"') % 2 == 0 and "'" not in part else part.split()
            words = words[1:] if words[:1] == ["$"] else words
            if words and words[0] in ("zerostream", ".venv/bin/zerostream") and len(words) > 1:
                yield words[1:]


def keys_of(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys_of(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


_add_plugin_commands()
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
CONFIG_KEYS = set(keys_of(Config))
EVERYWHERE = {"--help", "-h"}


def options_of(command: str) -> set[str]:
    return EVERYWHERE | {option for parameter in COMMANDS[command].params for option in parameter.opts}


@pytest.mark.parametrize("file", described_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_options_and_keys_exist(file: Path) -> None:
    for words in command_lines(file.read_text(encoding="utf-8")):
        line = " ".join(["zerostream", *words])
        command, *arguments = words
        if command in EVERYWHERE or command == "COMMAND":
            continue
        assert command in COMMANDS, line
        for word in arguments:
            if word.startswith("-"):
                assert word.partition("=")[0] in options_of(command), line
            elif (override := OVERRIDE.match(word)) and not override[1].startswith(KEYS_OF_ANY_NAME):
                assert override[1] in CONFIG_KEYS, line


def test_the_readme_shows_every_command() -> None:
    shown = {words[0] for words in command_lines((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert shown >= COMMANDS.keys()
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", markdown_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_links_and_configs_lead_somewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for target in LINK.findall(FENCE.sub("", text)):
        if not target.startswith(("http://", "https://", "mailto:", "#")):
            assert (file.parent / target.partition("#")[0]).exists(), target
    for config in CONFIG_PATH.findall(text):
        assert (ROOT / config).is_file(), config


@pytest.mark.parametrize("file", markdown_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_path_of_somebodys_machine(file: Path) -> None:
    assert "/work/" not in file.read_text(encoding="utf-8")


def test_the_configuration_reference_is_up_to_date() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == config_reference(), "run `python -m framework.config.reference > docs/configuration.md`"


def test_the_configuration_reference_has_every_key() -> None:
    reference = config_reference()
    assert [key for key in sorted(CONFIG_KEYS) if f"| `{key}` |" not in reference] == []


def test_the_page_on_clusters_has_every_key_of_a_profile_and_every_state() -> None:
    page = (ROOT / "docs" / "slurm.md").read_text(encoding="utf-8")
    assert [key for key in Profile.model_fields if f"| `{key}` |" not in page] == []
    states = page.partition("| state | means |")[2].partition("\n\n")[0]
    assert [name for name in ALIVE | OVER if name not in states] == []


def test_the_plugin_of_the_documentation_works(capsys: pytest.CaptureFixture[str]) -> None:
    from framework.plugins.interface import Plugin, StepRecord

    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "my_package"}
    exec(
        compile(next(block for kind, block in FENCE.findall(text) if kind == "python"), "my_package.py", "exec"), names
    )
    plugin = names["plugin"]
    assert isinstance(plugin, Plugin)
    model = plugin.options_model()
    assert model is not None
    assert plugin.hooks is not None
    [hook] = plugin.hooks(Config(), model.model_validate({"limit": 2.5}))
    record = StepRecord(7, 64, 2.0, 1e-3, 1.0, 0.1, 640.0, 0.0, 1, "0" * 16)
    hook.on_start(0)
    hook.on_step(record)
    hook.on_step(record)
    hook.on_finish(7)
    assert capsys.readouterr().out == "step 7: loss below 2.5\n"
    assert plugin.metrics["bits_per_token"](loss=0.6931471805599453, tokens=1, text_bytes=4) == pytest.approx(1.0)
