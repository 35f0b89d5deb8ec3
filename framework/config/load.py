"""From a YAML file and ``key.path=value`` overrides to a validated ``Config``, or a refusal that names the key.

config = load_config(Path("configs/quickstart.yaml"), ["engine.zero_stage=2", "train.max_steps=50"])
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from framework.config.presets import MODEL_PRESETS
from framework.config.schema import Config
from framework.errors import ConfigError, RunDirError

# What may change from start to start without making it another run (design: "a run's identity").
_NOT_IDENTITY = {
    "model": {"preset"},  # a name for sizes that stand beside it
    "tokenizer": {"path"},
    "data": {
        "path",
        "validation_path",
        "shards_dir",
        "prefetch_steps",
        "encoding",
        "remote",
        "cache_bytes",
        "on_bad_shard",
    },
}
_IDENTITY_SECTIONS = ("model", "tokenizer", "data", "optimizer", "schedule")
# What names code in a transformers configuration (docs/security.md). Its private keys, which begin with `_`, count as well.
_CODE_KEYS = {
    "allow_all_kernels", "attn_implementation", "auto_map", "code_revision", "custom_pipelines", "experts_implementation",
    "kernel_config", "name_or_path", "quantization_config", "trust_remote_code", "use_kernels",
}  # fmt: skip


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads ``path``, applies ``key.path=value`` overrides in order, and validates.

    Raises:
        ConfigError: the file cannot be read, or a key or value is refused; the message names it.
    """
    values = read_yaml(path)
    for override in overrides:
        _apply_override(values, override)
    return build_config(values, origin=str(path))


def build_config(values: dict[str, Any], *, origin: str) -> Config:
    """Validates plain values; ``origin`` is what messages call them.

    Raises:
        ConfigError: as ``load_config``.
    """
    _refuse_unknown_keys(values, Config, prefix="")
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise _first_error(error, origin) from None
    _refuse_code(config.model.overrides, "model.overrides")
    _refuse_impossible(config)
    return config


def dump_config(config: Config) -> str:
    """The resolved config as YAML that ``load_config`` reads back to an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def config_json_schema() -> str:
    """JSON schema of the config file, for completion and checks in editors."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


def identity(config: Config) -> dict[str, Any]:
    """The part of the config that makes it this run and no other: what a rerun must not change."""
    dumped = config.model_dump(mode="json")
    parts: dict[str, Any] = {"seed": config.seed}
    for section in _IDENTITY_SECTIONS:
        left_out = _NOT_IDENTITY.get(section, set())
        parts[section] = {key: value for key, value in dumped[section].items() if key not in left_out}
    parts["data"]["mixture"] = [part.weight for part in config.data.mixture]  # which text stands there, the shards say
    parts["train"] = {"max_steps": config.train.max_steps}
    parts["engine"] = {"global_batch_size": config.engine.global_batch_size}
    return parts


def identity_fingerprint(config: Config) -> str:
    """SHA-256 of ``identity``, in hex."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()


def refuse_other_identity(config: Config, stored: Config, run_dir: Path) -> None:
    """Refuses to go on in a run directory that another configuration has begun.

    Raises:
        RunDirError: names every key of the identity that differs, with both values.
    """
    mine, theirs = (dict(flatten(identity(each))) for each in (config, stored))
    changed = [key for key in sorted(mine.keys() | theirs.keys()) if mine.get(key) != theirs.get(key)]
    if changed:
        differences = ", ".join(f"{key} {mine.get(key)!r} (there: {theirs.get(key)!r})" for key in changed)
        raise RunDirError(
            f"run_dir {run_dir} belongs to another configuration: {differences}",
            fix="give this run a run_dir of its own, or set these keys back",
        )


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key.path, value) pairs of nested sections, in order."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a config file as plain values, not yet validated.

    Raises:
        ConfigError: it cannot be read, or is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"config file {path} does not exist", fix=_suggest_file(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}", fix="name a readable YAML file") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"config file {path} is not YAML: {where}", fix="correct that line") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"config file {path} holds a {type(values).__name__}, not sections",
            fix="write `section:` lines with indented `key: value` below, as in configs/quickstart.yaml",
        )
    return values


def _suggest_file(path: Path) -> str:
    siblings = [str(entry) for entry in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(str(path), siblings, n=1)
    return f"name {near[0]}" if near else "name an existing YAML file, such as configs/quickstart.yaml"


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(
            f"override {override!r} is not of the form key.path=value", fix="write it as train.max_steps=100"
        )
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        value = text
    # YAML 1.1 reads 5e-4 as text: only a number with a dot may have an exponent there. What is quoted stays text.
    if isinstance(value, str) and value == text.strip():
        value = _number_or_text(value)
    *sections, leaf = key.split(".")
    target = values
    for depth, section in enumerate(sections):
        child = target.setdefault(section, {})
        if child is None:
            child = target[section] = {}
        if not isinstance(child, dict):
            inner = ".".join(sections[: depth + 1])
            raise ConfigError(f"override {override!r}: {inner} is a value, not a section", fix=f"set {inner} itself")
        target = child
    target[leaf] = value


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _refuse_unknown_keys(values: dict[str, Any], section: type[BaseModel], prefix: str) -> None:
    """Before validation, so that the nearest key can be named."""
    for key, value in values.items():
        field = section.model_fields.get(str(key))
        if field is None:
            raise ConfigError(f"unknown key {prefix}{key}", fix=_suggest_key(str(key), section, prefix))
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            if value is None:
                values[key] = {}
            elif not isinstance(value, dict):
                raise ConfigError(
                    f"{prefix}{key} is {value!r}, but it is a section",
                    fix=f"set a key below it: {', '.join(inner.model_fields)}",
                )
            else:
                _refuse_unknown_keys(value, inner, f"{prefix}{key}.")


def _suggest_key(key: str, section: type[BaseModel], prefix: str) -> str:
    here = {f"{prefix}{name}": name for name in section.model_fields}
    near = difflib.get_close_matches(key, here.values(), n=1, cutoff=0.6)
    if near:
        return f"write {prefix}{near[0]}"
    elsewhere = [path for path in _all_keys(Config) if path.rpartition(".")[2] == key]
    if elsewhere:
        return f"write {elsewhere[0]}"
    far = difflib.get_close_matches(f"{prefix}{key}", list(_all_keys(Config)), n=1, cutoff=0.0)
    return f"the nearest key is {far[0]}; all keys of {prefix.rstrip('.') or 'the top level'}: {', '.join(section.model_fields)}"


def _all_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _all_keys(field.annotation, f"{prefix}{name}.")


def _first_error(error: ValidationError, origin: str) -> ConfigError:
    details = error.errors()[0]
    key = ".".join(str(part) for part in details["loc"])
    message = details["msg"].removeprefix("Value error, ")
    if key == "model" and message.startswith("preset "):
        return _preset_error(details["input"].get("preset"))
    if details["type"] == "value_error":
        return ConfigError(f"{origin}: {key}.{message}" if key else f"{origin}: {message}", fix=f"change {key or 'it'}")
    fix = f"correct {key}"
    if details["type"] == "literal_error":
        expected = str(details.get("ctx", {}).get("expected", ""))
        choices = [choice.strip(" '") for choice in expected.replace(" or ", ", ").split(",")]
        near = difflib.get_close_matches(str(details["input"]), choices, n=1)
        fix = f"write {key}={near[0]}" if near else f"choose one of {', '.join(choices)}"
    return ConfigError(f"{origin}: {key} is {details['input']!r}: {message[0].lower()}{message[1:]}", fix=fix)


def _preset_error(preset: object) -> ConfigError:
    near = difflib.get_close_matches(str(preset), MODEL_PRESETS, n=1, cutoff=0.0)
    return ConfigError(
        f"model.preset {preset!r} is not one of {', '.join(MODEL_PRESETS)}", fix=f"write model.preset={near[0]}"
    )


def _refuse_code(values: Any, path: str) -> None:
    """Keys by which transformers would load code, from the hub or a folder: a config that was sent by someone runs nothing."""
    if isinstance(values, list | tuple):
        for number, value in enumerate(values):
            _refuse_code(value, f"{path}.{number}")
    elif isinstance(values, dict):
        for key, value in values.items():
            if str(key) in _CODE_KEYS or str(key).startswith("_"):
                raise ConfigError(
                    f"{path}.{key} could make transformers load code, which no config may do",
                    fix="remove it; a model with code of its own comes as a plugin (docs/plugins.md)",
                )
            _refuse_code(value, f"{path}.{key}")


def _refuse_impossible(config: Config) -> None:
    engine = config.engine
    checks: list[tuple[bool, str, str]] = [
        (
            engine.compile and engine.kind == "deepspeed" and engine.zero_stage == 3,
            "engine.compile true with engine.zero_stage 3: parameters that are gathered by hooks break the compiled graph",
            "set engine.compile=false or engine.zero_stage=2",
        ),
        (
            engine.kind == "reference" and engine.precision == "fp16",
            "engine.precision fp16 with engine.kind reference, which does not scale the loss",
            "set engine.precision=bf16",
        ),
        (
            engine.offload.optimizer and (engine.kind != "deepspeed" or engine.zero_stage == 0),
            f"engine.offload.optimizer true with engine.kind {engine.kind} and engine.zero_stage {engine.zero_stage}",
            "use engine.kind=deepspeed and engine.zero_stage 1, 2 or 3, or turn offload off",
        ),
        (
            engine.offload.parameters and (engine.kind != "deepspeed" or engine.zero_stage != 3),
            f"engine.offload.parameters true with engine.kind {engine.kind} and engine.zero_stage {engine.zero_stage}",
            "use engine.kind=deepspeed and engine.zero_stage 3, or turn offload off",
        ),
        (
            config.optimizer.kind == "muon" and engine.offload.optimizer,
            "optimizer.kind muon with engine.offload.optimizer true: its matrices are put together where the gradients are",
            "set optimizer.kind=adamw, or turn offload off",
        ),
        (
            engine.global_batch_size % engine.micro_batch_size != 0,
            f"engine.global_batch_size {engine.global_batch_size} is no multiple of "
            f"engine.micro_batch_size {engine.micro_batch_size}",
            "make global_batch_size = micro_batch_size x accumulation x ranks",
        ),
        (
            config.data.source in {"text", "jsonl", "csv", "parquet", "hub"} and not config.data.path,
            f"data.path is missing for data.source {config.data.source}",
            "set data.path to the text, or data.source=embedded for the built-in stories",
        ),
        (
            config.data.remote is not None and bool(config.data.mixture),
            "data.remote is set beside data.mixture, whose parts are sets of their own",
            "leave data.remote out, and name `remote` in each part of data.mixture that has one",
        ),
    ]
    for is_impossible, cause, fix in checks:
        if is_impossible:
            raise ConfigError(cause, fix=fix)
