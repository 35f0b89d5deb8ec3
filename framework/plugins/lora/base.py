"""The model that is fine-tuned: where it comes from, and what it is. Importing this module needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.data.tokenizer import Tokenizer, load_pretrained, load_tokenizer
from framework.errors import CheckpointError, ConfigError, RunDirError, UserError
from framework.run_dir import RunDir

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# What the config calls a size, and what transformers' configurations call it.
_SIZES = {
    "layers": ("num_hidden_layers", "n_layer"),
    "width": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
}
_POSITIONS = ("max_position_embeddings", "n_positions")
_VOCABULARY_MATRICES = ("wte", "embed_tokens", "embed_in", "word_embeddings", "lm_head", "embed_out")
_WRAPPER = "transformer."
"""What a run calls the transformer that it wraps."""
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


@dataclass(frozen=True)
class Base:
    """A trained causal language model: a run of zerostream, or a folder in Hugging Face's format.

    Args:
        name: as the config has it.
        folder: of the run or of the model's files.
    """

    name: str
    folder: Path

    @property
    def is_run(self) -> bool:
        """Whether it is a run directory."""
        return RunDir(self.folder).config.is_file()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The base's own: what it learned to read."""
        return load_tokenizer(RunDir(self.folder).tokenizer) if self.is_run else load_pretrained(str(self.folder))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of its weights by name: an adapter belongs to these and no others.

        A run and what `zerostream export` makes of it have the same: files, their layout and their precision do not matter.

        Raises:
            UserError: there are none, or they are damaged.
        """
        hasher = hashlib.sha256()
        for name, values in self._weights():
            hasher.update(f"{name} {values.numel()} ".encode())
            hasher.update(values.numpy().data)
        return hasher.hexdigest()

    @cached_property
    def sizes(self) -> dict[str, Any]:
        """Keys of the config's ``model`` section that describe it."""
        if self.is_run:
            from framework.train.preflight import read_run_config

            model = read_run_config(self.folder).model
            return {
                "architecture": model.architecture,
                "layers": model.layers,
                "width": model.width,
                "heads": model.heads,
                "context_length": model.context_length,
            }
        values = read_object(self.folder / "config.json", fix="download or export it again")
        text = values.get("text_config", values)
        sizes: dict[str, Any] = {"architecture": values.get("model_type", "gpt2")}
        for key, names in {**_SIZES, "context_length": _POSITIONS}.items():
            found = [text[name] for name in names if isinstance(text.get(name), int)]
            if not found:
                raise ConfigError(f"{self.folder / 'config.json'} has no {names[0]}", fix="use another base")
            sizes[key] = found[0]
        return sizes

    def load(self) -> PreTrainedModel:
        """The model, in float32 on the CPU.

        Raises:
            UserError: its files are missing, damaged or none that transformers reads as safetensors.
        """
        return self._load_run() if self.is_run else self._load_folder()

    def _load_run(self) -> PreTrainedModel:
        from transformers import PreTrainedModel

        from framework.model.language_model import LanguageModel
        from framework.train.trained import load_trained

        trained = load_trained(self.folder)
        transformer = trained.model.transformer
        if not isinstance(trained.model, LanguageModel) or not isinstance(transformer, PreTrainedModel):
            raise UserError(
                f"base {self.name} is no causal model of transformers", fix="fine-tune a run that pretraining made"
            )
        transformer.cpu()
        return transformer

    def _load_folder(self) -> PreTrainedModel:
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, PreTrainedModel

        loaded: Any
        try:
            loaded = AutoModelForCausalLM.from_pretrained(
                self.folder,
                use_safetensors=True,
                trust_remote_code=False,
                dtype="float32",
                output_loading_info=True,
            )
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(
                f"base {self.name} cannot be loaded: {' '.join(str(error).split())[:300]}",
                fix="name a run directory, or a folder with config.json and model.safetensors",
            ) from error
        model, report = loaded
        if missing := sorted(report["missing_keys"]):  # transformers would leave them random
            raise UserError(f"base {self.name} lacks the weight {missing[0]}", fix="download or export it again")
        assert isinstance(model, PreTrainedModel)
        return model

    def _weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Each weight's name and values, flat, in float32, by name; one at a time is in memory."""
        return self._weights_of_run() if self.is_run else self._weights_of_folder()

    def _weights_of_folder(self) -> Iterator[tuple[str, torch.Tensor]]:
        from safetensors import SafetensorError, safe_open

        files = sorted(self.folder.glob("*.safetensors"))
        if not files:
            raise UserError(
                f"base {self.name} holds no .safetensors file (pickled weights are not read)",
                fix="name a run directory, or a folder that `zerostream export` wrote",
            )
        try:
            opened: list[Any] = [safe_open(file, framework="pt") for file in files]
            weights = {name: file for file in opened for name in file.keys()}  # noqa: SIM118 - no mapping
            for name in sorted(weights):
                yield name, weights[name].get_tensor(name).float().flatten()
        except (OSError, SafetensorError) as error:
            raise UserError(f"base {self.name} cannot be read: {error}", fix="download or export it again") from error

    def _weights_of_run(self) -> Iterator[tuple[str, torch.Tensor]]:
        from framework.checkpoint.fragments import CheckpointReader
        from framework.checkpoint.store import find_newest_verified
        from framework.engine import WEIGHT
        from framework.model.build import padded_vocab_size
        from framework.train.preflight import read_run_config

        try:
            newest = find_newest_verified(RunDir(self.folder))
        except CheckpointError as error:
            raise UserError(f"base {self.name}: {error.cause}", fix=error.fix) from error
        if newest is None:
            raise RunDirError(f"base {self.name} has no checkpoint yet", fix="wait for its first save, or train it")
        reader = CheckpointReader(RunDir(self.folder).checkpoint(newest.step), newest)
        vocab_size = self.tokenizer.vocab_size
        rows = padded_vocab_size(vocab_size, read_run_config(self.folder).model.pad_vocab_to_multiple)
        for name in sorted(reader.names(WEIGHT)):
            count = reader.size(WEIGHT, name)
            if name.split(".")[-2] in _VOCABULARY_MATRICES:  # the rows that only round it up are not exported
                count = count // rows * vocab_size
            yield name.removeprefix(_WRAPPER), reader.read(WEIGHT, name, 0, count)


def open_base(name: str) -> Base:
    """The base of that name: a folder, or else a model of the Hugging Face hub, which is fetched.

    Raises:
        UserError: there is none.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if RunDir(folder).config.is_file() or (folder / "config.json").is_file():
            return Base(name, folder)
        raise UserError(
            f"base {name} is neither a run directory nor a Hugging Face model (no config.yaml, no config.json)",
            fix="name the run_dir of a training run, or a folder that `zerostream export` wrote",
        )
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"base {name} does not exist", fix="name a run directory, an exported folder or a hub name")
    import huggingface_hub

    try:
        return Base(name, Path(huggingface_hub.snapshot_download(name, allow_patterns=_HUB_FILES)))
    except Exception as error:  # offline, unknown, gated, time-out: a dozen classes with one meaning here
        raise UserError(
            f"base {name} is no folder here, and the Hugging Face hub does not give it: {' '.join(str(error).split())[:200]}",
            fix="check the name and the network, or name a run directory or an exported folder",
        ) from error


def read_object(path: Path, *, fix: str) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        UserError: it is missing, or no JSON object; ``fix`` says what to do.
    """
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", fix=fix) from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no JSON object", fix=fix)
    return values
