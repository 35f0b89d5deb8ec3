"""Finds plugins by entry point and hands out those that a run's config names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, get_args

from framework.errors import PluginError
from framework.plugins.interface import Plugin

if TYPE_CHECKING:
    from pydantic import BaseModel

    from framework.config.schema import Config

ENTRY_POINT_GROUP = "zerostream.plugins"


@dataclass(frozen=True)
class ActivePlugin:
    """A plugin that takes part in a run, with its validated options."""

    plugin: Plugin
    options: Any


@cache
def installed_plugins() -> Mapping[str, Plugin]:
    """All installed plugins by name.

    Raises:
        PluginError: one does not load, or its name is not its entry point's.
    """
    return {point.name: _load(point) for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name)}


def active_plugins(config: Config) -> tuple[ActivePlugin, ...]:
    """The plugins that ``config.plugins`` names, in that order.

    Raises:
        PluginError: one is not installed, or its options are refused.
    """
    return tuple(_activate(name, options) for name, options in config.plugins.items())


def _load(point: EntryPoint) -> Plugin:
    try:
        plugin = point.load()
    except Exception as error:  # a plugin is foreign code: whatever it raises must name the plugin
        raise PluginError(
            f"plugin {point.name} ({point.value}) does not load: {error}", fix="repair or uninstall its package"
        ) from error
    if not isinstance(plugin, Plugin) or plugin.name != point.name:
        raise PluginError(
            f"entry point {point.name} ({point.value}) is not a Plugin of that name",
            fix=f"let it point to a framework.plugins.interface.Plugin with name={point.name!r}",
        )
    return plugin


def _activate(name: str, options: dict[str, Any]) -> ActivePlugin:
    plugin = installed_plugins().get(name)
    if plugin is None:
        found = ", ".join(installed_plugins()) or "none"
        near = difflib.get_close_matches(name, installed_plugins(), n=1)
        raise PluginError(
            f"plugins.{name} is not installed (found: {found})",
            fix=f"write plugins.{near[0]}, if that is meant" if near else "install its package or remove the section",
        )
    model = plugin.options_model()
    if model is None:
        if options:
            raise PluginError(f"plugins.{name} takes no options, but has {', '.join(options)}", fix="remove them")
        return ActivePlugin(plugin, None)
    from pydantic import ValidationError  # here: all commands look for plugins, and few read a config

    try:
        return ActivePlugin(plugin, model.model_validate(options))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(("plugins", name, *(str(part) for part in first["loc"])))
        raise PluginError(
            f"{key} is {first['input']!r}: {first['msg']}",
            fix=_remedy(model, first["type"], key, first["loc"]),
        ) from None


def _remedy(options: type[BaseModel], kind: str, key: str, location: Sequence[str | int]) -> str:
    if kind != "extra_forbidden":
        return f"change {key}"
    keys = _keys_at(options, location[:-1])
    near = difflib.get_close_matches(str(location[-1]), keys, n=1)
    section = key.rpartition(".")[0]
    return f"write {section}.{near[0]}" if near else f"remove it; {section} has {', '.join(keys)}"


def _keys_at(section: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """What may stand in the section that ``path`` leads to; nothing where that is no section."""
    from pydantic import BaseModel

    for part in path:
        if str(part) not in section.model_fields:
            return []
        annotation = section.model_fields[str(part)].annotation
        inner = [
            each
            for each in (annotation, *get_args(annotation))
            if isinstance(each, type) and issubclass(each, BaseModel)
        ]
        if not inner:
            return []
        section = inner[0]
    return list(section.model_fields)
