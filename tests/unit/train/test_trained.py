"""A text is evaluated to the figures of its shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.config import build_config
from framework.data.embedded import generate_stories
from framework.data.prepare import prepare
from framework.errors import SourceError
from framework.train.trained import Trained, evaluate_text, evaluate_trained, read_text

SEPARATOR = "<|endoftext|>"


def test_a_text_has_the_figures_of_its_shards(untrained: Trained, tiny_shards: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(f"\n{SEPARATOR}\n".join(generate_stories(7, seed=6)))
    (tmp_path / "train.txt").write_text("not of interest")
    data = {"source": "text", "path": str(tmp_path / "train.txt"), "validation_path": str(text)}
    values = {
        "tokenizer": {"kind": "pretrained", "path": str(tiny_shards / "tokenizer")},
        "data": {**data, "shards_dir": str(tmp_path / "shards")},
    }
    manifest = prepare(build_config(values, origin="tests"))
    figures = evaluate_text(untrained, read_text(untrained, str(text)))
    of_shards = evaluate_trained(untrained, tmp_path / "shards")
    assert figures == {
        "text": str(text),
        "documents": 7,
        "tokens": manifest.tokens("validation"),
        "text_bytes": manifest.text_bytes("validation"),
        **of_shards,
    }
    assert figures["text_bytes"] == sum(len(story.strip().encode()) for story in generate_stories(7, seed=6))


def test_another_separator_makes_other_documents(untrained: Trained, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One day it rained.\n\nTom ran home.\n\nThe end.")
    texts = [read_text(untrained, str(tmp_path / "text.txt"), separator=each) for each in (SEPARATOR, "\n\n")]
    whole, cut = (evaluate_text(untrained, text) for text in texts)
    assert (whole["documents"], cut["documents"]) == (1, 3)
    assert cut["text_bytes"] == float(whole["text_bytes"]) - 4


def test_a_text_that_is_not_there_or_empty_is_refused(untrained: Trained, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    for name in ("absent.txt", "empty.txt"):
        with pytest.raises(SourceError, match=f"--text .*{name}"):
            read_text(untrained, str(tmp_path / name))
