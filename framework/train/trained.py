"""Using what a run has learned: load its newest weights, continue prompts, evaluate, and export to Hugging Face's format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from framework.checkpoint.fragments import CheckpointReader
from framework.checkpoint.manifest import verify
from framework.checkpoint.store import find_newest_verified
from framework.config import Config
from framework.data.corpus import Corpus, load_corpus, local_corpus
from framework.data.sources import open_text
from framework.data.text_corpus import text_corpus
from framework.data.tokenizer import END_OF_TEXT, Tokenizer, load_tokenizer
from framework.engine import WEIGHT
from framework.errors import CheckpointError, RunDirError, ShardError, StorageError, UserError
from framework.model.generate import Sampling, generate_tokens
from framework.model.language_model import LanguageModel
from framework.model.loss_model import LossModel
from framework.run_dir import RunDir
from framework.train.evaluation import evaluate_model
from framework.train.preflight import read_run_config, recipe_of


@dataclass(frozen=True)
class Trained:
    """A model as a run left it at ``step``, in float32 and in evaluation mode, on the GPU if there is one."""

    config: Config
    tokenizer: Tokenizer
    model: LossModel
    step: int

    @property
    def language_model(self) -> LanguageModel:
        """The model, as what goes on with a text.

        Raises:
            UserError: it does something else.
        """
        if not isinstance(self.model, LanguageModel):
            raise UserError(
                "this run's model names the class of a text, and goes on with none", fix="use `zerostream predict`"
            )
        return self.model


def load_trained(run_dir: Path, step: int | None = None) -> Trained:
    """The newest checkpoint that verifies, or the one of ``step``.

    Raises:
        RunDirError: no run directory, or it has no such checkpoint yet.
        CheckpointError: the checkpoint does not verify, or lacks a weight.
    """
    config = read_run_config(run_dir)
    paths = RunDir(run_dir)
    if step is None:
        newest = find_newest_verified(paths)
        if newest is None:
            raise RunDirError(
                f"{run_dir} has no checkpoint yet", fix="wait for its first save (checkpoint.every_steps)"
            )
    elif step in paths.checkpoint_steps():
        newest = verify(paths.checkpoint(step))
    else:
        there = ", ".join(map(str, paths.checkpoint_steps())) or "none"
        raise RunDirError(f"{run_dir} has no checkpoint of step {step}", fix=f"choose one of these: {there}")
    tokenizer = load_tokenizer(paths.tokenizer)
    model = recipe_of(config).build_model(tokenizer, used_from=paths)
    _fill(model, CheckpointReader(paths.checkpoint(newest.step), newest))
    return Trained(config, tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), newest.step)


def _fill(model: LossModel, reader: CheckpointReader) -> None:
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    differing = sorted(parameters.keys() ^ reader.names(WEIGHT))
    if differing:
        raise CheckpointError(
            f"the checkpoint does not fit the model: {differing[0]} is not in both", fix="use the version that wrote it"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(reader.read(WEIGHT, name, 0, parameter.numel()).view_as(parameter))


def generate_text(trained: Trained, prompt: str, sampling: Sampling) -> Iterator[str]:
    """Yields the continuation of ``prompt`` piece by piece; the pieces together are the text.

    Raises:
        UserError: the prompt leaves the model no room.
    """
    return _decode_stream(trained, encode_prompt(trained, prompt), sampling)


def encode_prompt(trained: Trained, prompt: str) -> list[int]:
    """Token ids of ``prompt``, without the end-of-text that generation puts before it.

    Raises:
        UserError: the prompt leaves the model no room.
    """
    tokens = trained.tokenizer.encode(prompt)
    limit = trained.config.model.context_length
    if len(tokens) >= limit:
        raise UserError(
            f"the prompt has {len(tokens)} tokens, and the model reads {limit - 1} at most", fix="shorten the prompt"
        )
    return tokens


def _decode_stream(trained: Trained, prompt: list[int], sampling: Sampling) -> Iterator[str]:
    """A character may take several tokens: what is not yet whole waits."""
    chosen: list[int] = []
    shown = ""
    for token in generate_tokens(
        trained.language_model,
        prompt,
        sampling,
        context_length=trained.config.model.context_length,
        end_of_text_id=trained.tokenizer.end_of_text_id,
    ):
        chosen.append(token)
        text = trained.tokenizer.decode(chosen)
        if not text.endswith("\ufffd"):
            yield text[len(shown) :]
            shown = text
    rest = trained.tokenizer.decode(chosen)[len(shown) :]
    if rest:
        yield rest


def evaluate_trained(
    trained: Trained, shards_dir: Path | None = None, *, max_sequences: int | None = None
) -> dict[str, float]:
    """Loss, perplexity and bits per byte on validation shards: the run's own, or those in ``shards_dir``.

    All sequences, or the first ``max_sequences``.

    Raises:
        ShardError: they are missing, damaged, or were written with another tokenizer.
    """
    return evaluate_model(trained.language_model, trained.config, open_corpus(trained, shards_dir), max_sequences)


def open_corpus(trained: Trained, shards_dir: Path | None = None) -> Corpus:
    """The run's own shards, or those in ``shards_dir``.

    Raises:
        ShardError: they are missing, damaged, or were written with another tokenizer.
    """
    corpus = local_corpus(shards_dir) if shards_dir else load_corpus(trained.config.data)
    if corpus.tokenizer_fingerprint != trained.tokenizer.fingerprint:
        raise ShardError(
            f"the shards in {corpus.name} were written with another tokenizer than the run's", fix="name other shards"
        )
    return corpus


def read_text(trained: Trained, path: str, *, separator: str = END_OF_TEXT) -> Corpus:
    """UTF-8 text files as a corpus of the model's tokens, in memory; what ``prepare`` would write of the same text.

    Args:
        trained: whose tokenizer.
        path: a file, a folder or a glob.
        separator: what stands between two documents; a file without it is one document.

    Raises:
        SourceError: nothing is there, or it cannot be read.
    """
    documents = open_text(path, separator, key="--text")
    return text_corpus(documents, trained.tokenizer, name=path, shard_tokens=trained.config.data.shard_tokens)


def evaluate_text(trained: Trained, text: Corpus) -> dict[str, str | float]:
    """Documents, tokens and bytes of what ``read_text`` has read, loss, perplexity and bits per byte.

    The figures are those that ``evaluate_trained`` gives on the text's shards: every token of every document is a target once,
    end-of-text included, and what is longer than the context is cut into rows.
    """
    return {
        "text": text.name,
        "documents": sum(shard.entry.documents for shard in text.split("validation")),
        "tokens": text.tokens("validation"),
        "text_bytes": text.text_bytes("validation"),
        **evaluate_model(trained.language_model, trained.config, text),
    }


def export(trained: Trained, folder: Path) -> None:
    """Writes a folder that the recipe's ``loaded_by`` and ``AutoTokenizer`` load, with the same logits in float32.

    Raises:
        UserError: the folder holds something already.
        StorageError: it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty", fix="name a new folder")
    model = recipe_of(trained.config).whole(trained.model)
    if not isinstance(model, PreTrainedModel):
        raise UserError(
            f"model.architecture {trained.config.model.architecture} is no transformers model",
            fix="export it with its plugin",
        )
    # The rows that only rounded the embedding up never had a meaning outside.
    model.resize_token_embeddings(trained.tokenizer.vocab_size)
    model.config.use_cache = True
    try:
        model.save_pretrained(folder)
        trained.tokenizer.save_for_transformers(folder)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error}", fix="free space, or name another folder") from error
