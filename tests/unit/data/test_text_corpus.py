"""A text in memory gives what its shards give: compared with ``prepare``, batch for batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from framework.config import build_config, plan_batch
from framework.data.corpus import Corpus, local_corpus
from framework.data.embedded import generate_stories
from framework.data.prepare import prepare
from framework.data.sources import open_text
from framework.data.stream import IGNORED_TARGET, MicroBatch, validation_micro_batches
from framework.data.text_corpus import text_corpus
from framework.data.tokenizer import load_tokenizer
from framework.errors import SourceError

SEPARATOR = "<|endoftext|>"
CONTEXT = 16
PLAN = plan_batch(
    build_config(
        {"model": {"context_length": CONTEXT}, "engine": {"micro_batch_size": 3, "global_batch_size": 3}},
        origin="tests",
    ),
    1,
)


def prepared(folder: Path, text: Path, tokenizer: Path, shard_tokens: int) -> Corpus:
    (folder / "train.txt").write_text("something else")
    values = {
        "tokenizer": {"kind": "pretrained", "path": str(tokenizer)},
        "data": {
            "source": "text",
            "path": str(folder / "train.txt"),
            "validation_path": str(text),
            "shards_dir": str(folder / "shards"),
            "shard_tokens": shard_tokens,
        },
    }
    prepare(build_config(values, origin="tests"))
    return local_corpus(folder / "shards")


def batches(corpus: Corpus) -> list[MicroBatch]:
    return list(validation_micro_batches(corpus, PLAN, rank=0))


@pytest.mark.parametrize("shard_tokens", [100, 1_000_000])
def test_a_text_gives_the_batches_of_its_shards(tiny_shards: Path, tmp_path: Path, shard_tokens: int) -> None:
    text = tmp_path / "text.txt"
    text.write_text(f"\n{SEPARATOR}\n".join([*generate_stories(8, seed=5), "é ü \N{SNOWMAN} short", "   "]))
    shards = prepared(tmp_path, text, tiny_shards / "tokenizer", shard_tokens)
    tokenizer = load_tokenizer(tiny_shards / "tokenizer")
    memory = text_corpus(
        open_text(str(text), SEPARATOR, key="--text"), tokenizer, name="text", shard_tokens=shard_tokens
    )
    assert memory.tokenizer_fingerprint == shards.tokenizer_fingerprint
    assert len(memory.split("validation")) == len(shards.split("validation")) == (1 if shard_tokens > 100 else 9)
    assert memory.tokens("validation") == shards.tokens("validation")
    assert memory.text_bytes("validation") == shards.text_bytes("validation")
    mine, theirs = batches(memory), batches(shards)
    assert len(mine) == len(theirs) > 1
    for one, other in zip(mine, theirs, strict=True):
        assert torch.equal(one.input_ids, other.input_ids)
        assert torch.equal(one.targets, other.targets)


def test_every_token_is_a_target_once_and_every_document_ends(tiny_shards: Path) -> None:
    tokenizer = load_tokenizer(tiny_shards / "tokenizer")
    texts = ["Once upon a time, there was a little dog who liked to run in the big park.", "The end."]
    corpus = text_corpus(texts, tokenizer, name="text", shard_tokens=1000)
    targets = torch.cat([batch.targets.flatten() for batch in batches(corpus)])
    end = tokenizer.end_of_text_id
    assert targets[targets != IGNORED_TARGET].tolist() == [
        *tokenizer.encode(texts[0]), end, *tokenizer.encode(texts[1]), end
    ]  # fmt: skip
    assert corpus.text_bytes("validation") == sum(map(len, texts))


def test_a_text_without_the_separator_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One line.\n\nAnother line.\n")
    assert list(open_text(str(tmp_path / "text.txt"), SEPARATOR, key="--text")) == ["One line.\n\nAnother line."]
    assert list(open_text(str(tmp_path / "text.txt"), "\n\n", key="--text")) == ["One line.", "Another line."]


def test_what_cannot_be_read_is_refused_by_its_option(tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text(" \n\n ")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    for name, cause in (("absent.txt", "does not exist"), ("blank.txt", "holds no document")):
        with pytest.raises(SourceError, match=rf"^--text \S*{name} {cause}"):
            list(open_text(str(tmp_path / name), SEPARATOR, key="--text"))
    with pytest.raises(SourceError, match=r"latin\.txt: byte 3 .* is not utf-8"):
        list(open_text(str(tmp_path / "latin.txt"), SEPARATOR, key="--text"))


def test_documents_are_read_back_one_by_one(tiny_shards: Path) -> None:
    corpus = local_corpus(tiny_shards)
    documents = list(corpus.documents("validation"))
    assert len(documents) == sum(shard.entry.documents for shard in corpus.split("validation"))
    assert sum(map(len, documents)) == corpus.tokens("validation")
    assert {int(tokens[-1]) for tokens in documents} == {corpus.end_of_text_id}
