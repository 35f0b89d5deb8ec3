from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.config.load import build_config
from framework.config.schema import Config
from framework.data.fast_encoding import DocumentEncoder
from framework.data.prepare import prepare
from framework.data.prepare_part import PartNumber, prepare_part
from framework.data.tokenizer import END_OF_TEXT, Tokenizer, build_tokenizer, load_tokenizer
from framework.errors import TokenizerError

TEXTS = [
    "Once upon a time there was a little girl named Lily. She didn't like the rain, and she'd say so; they'll see.",
    "  Two  spaces,\ttabs and\n\nempty lines; numbers 1234 and it's 99%.",
    "Ein Bär aß Brötchen. 兔子跑得很快。 🐻‍❄️ \u2028 \x00 end",
    f"a literal {END_OF_TEXT} inside, and <|endoftext|",
]
WORDS = st.sampled_from(
    ["a", "the", " the", "Lily", " 12", "3", "'s", "'LL", "'", "  ", "\n", " é", "é", "兔", "🐻", END_OF_TEXT]
)
DOCUMENTS = st.lists(st.text(max_size=60) | st.lists(WORDS, max_size=40).map("".join), max_size=6)


def train(texts: list[str] = TEXTS, **settings: Any) -> Tokenizer:
    values = {"vocab_size": 400, **settings}
    return build_tokenizer(build_config({"tokenizer": values}, origin="test"), texts * 3)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train()


@pytest.fixture(scope="module")
def fast(tokenizer: Tokenizer) -> DocumentEncoder:
    pytest.importorskip("gigatoken", reason="the extra `fast` is not installed")
    said: list[str] = []
    encoder = DocumentEncoder(tokenizer, said.append)
    encoder.encode_with_ends(TEXTS)
    assert said == []
    return encoder


@pytest.fixture
def without_gigatoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gigatoken", None)  # importing it fails from now on


def assert_same(encoder: DocumentEncoder, tokenizer: Tokenizer, texts: list[str]) -> None:
    tokens, lengths = encoder.encode_with_ends(texts)
    expected, expected_lengths = tokenizer.encode_with_ends(texts)
    assert tokens.dtype == expected.dtype
    np.testing.assert_array_equal(tokens, expected)
    assert lengths == expected_lengths


@settings(deadline=None, max_examples=300)
@given(texts=DOCUMENTS)
def test_any_documents_get_the_ids_of_tokenizers(fast: DocumentEncoder, tokenizer: Tokenizer, texts: list[str]) -> None:
    assert_same(fast, tokenizer, texts)


@pytest.mark.parametrize("block", [0x0000, 0x2000, 0x1E00, 0xA600, 0x10800, 0x16D00, 0x1C000, 0x1F900, 0x32300])
def test_characters_that_the_two_libraries_sort_differently_get_the_ids_of_tokenizers_too(
    fast: DocumentEncoder, tokenizer: Tokenizer, block: int
) -> None:
    """The blocks are old and new ones: libraries follow Unicode at their own pace."""
    assert_same(fast, tokenizer, [f"a{chr(code)} {chr(code)}1!{chr(code)}" for code in range(block, block + 0x400)])


@pytest.mark.parametrize("text", [" " * 70_000, "a" * 70_000, "'\n" * 30_000, "兔" * 30_000, "x1 " * 30_000, ""])
def test_long_runs_get_the_ids_of_tokenizers(fast: DocumentEncoder, tokenizer: Tokenizer, text: str) -> None:
    assert_same(fast, tokenizer, [text, TEXTS[0]])


@pytest.mark.usefixtures("without_gigatoken")
def test_without_gigatoken_tokenizers_does_it_and_a_sentence_says_so_once(tokenizer: Tokenizer) -> None:
    said: list[str] = []
    encoder = DocumentEncoder(tokenizer, said.append)
    assert_same(encoder, tokenizer, TEXTS)
    assert_same(encoder, tokenizer, TEXTS[:1])
    assert said == [
        "tokenizing with Hugging Face's tokenizers: gigatoken, which is much faster, is not installed "
        "(pip install 'zerostream[fast]')"
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}},
        {"pre_tokenizer": None},
    ],
)
def test_a_tokenizer_of_another_form_is_left_to_tokenizers(
    tokenizer: Tokenizer, tmp_path: Path, changed: dict[str, Any]
) -> None:
    pytest.importorskip("gigatoken", reason="the extra `fast` is not installed")
    tokenizer.save(tmp_path)
    values = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**values, **changed}))
    other = load_tokenizer(tmp_path)
    said: list[str] = []
    assert_same(DocumentEncoder(other, said.append), other, TEXTS)
    assert said == [
        "tokenizing with Hugging Face's tokenizers: gigatoken is used for tokenizers of GPT-2's form only, "
        "and this one has another"
    ]


def test_ids_that_differ_later_are_an_error(tokenizer: Tokenizer) -> None:
    gigatoken = pytest.importorskip("gigatoken", reason="the extra `fast` is not installed")
    encoder = DocumentEncoder(tokenizer)
    encoder.encode_with_ends(TEXTS)
    assert encoder._fast
    encoder._fast._gigatoken = gigatoken.Tokenizer.from_json(train(["other words alone"], vocab_size=260).to_json())
    with pytest.raises(
        TokenizerError, match=r"other token ids .* for a document with 'Once upon.*set ZEROSTREAM_GIGATOKEN=0"
    ):
        encoder.encode_with_ends(TEXTS[:1])


def make_config(tmp_path: Path, shards_dir: str) -> Config:
    source = tmp_path / "stories.txt"
    source.write_text(
        END_OF_TEXT.join(f"{number}. {text}" for number in range(90) for text in TEXTS[:3]), encoding="utf-8"
    )
    data = {"source": "text", "path": str(source), "shards_dir": str(tmp_path / shards_dir), "shard_tokens": 900}
    return build_config({"data": {**data, "validation_fraction": 0.5}, "tokenizer": {"vocab_size": 300}}, origin="test")


def shards_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_shards_have_the_same_bytes_whichever_library_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gigatoken", reason="the extra `fast` is not installed")
    prepare(make_config(tmp_path, "fast"))
    assert "gigatoken" not in capsys.readouterr().err
    for number in (1, 2):
        prepare_part(make_config(tmp_path, "parts"), PartNumber(number, 2))
    assert "gigatoken" not in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    prepare(make_config(tmp_path, "standard"))
    assert "zerostream: tokenizing with Hugging Face's tokenizers: gigatoken" in capsys.readouterr().err
    assert shards_of(tmp_path / "standard") == shards_of(tmp_path / "fast") == shards_of(tmp_path / "parts")


class Panic(BaseException):
    """As a panic of Rust code comes to Python: it is no Exception."""


@pytest.mark.parametrize("error", [AttributeError("no backend"), OSError("libfoo.so"), Panic("index out of range")])
def test_another_gigatoken_that_fails_is_not_used_and_a_sentence_says_so(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    pytest.importorskip("gigatoken", reason="the extra `fast` is not installed")

    class Broken:
        __spec__ = sys.modules["gigatoken"].__spec__

        def __getattr__(self, name: str) -> None:
            raise error

    monkeypatch.setitem(sys.modules, "gigatoken", Broken())  # type: ignore[arg-type]
    said: list[str] = []
    assert_same(DocumentEncoder(tokenizer, said.append), tokenizer, TEXTS)
    assert said == [f"tokenizing with Hugging Face's tokenizers: gigatoken fails ({type(error).__name__}: {error})"]


def test_a_failure_in_the_middle_goes_on_without_it(tokenizer: Tokenizer, fast: DocumentEncoder) -> None:
    said: list[str] = []
    encoder = DocumentEncoder(tokenizer, said.append)
    assert_same(encoder, tokenizer, TEXTS)

    def fails(texts: object) -> None:
        raise Panic("index out of range")

    encoder._fast.encode_documents = fails  # type: ignore[union-attr, method-assign, assignment]
    assert_same(encoder, tokenizer, TEXTS)
    assert_same(encoder, tokenizer, TEXTS[::-1])
    assert said == ["tokenizing with Hugging Face's tokenizers: gigatoken fails (Panic: index out of range)"]


def test_it_can_be_declined(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROSTREAM_GIGATOKEN", "0")
    said: list[str] = []
    assert_same(DocumentEncoder(tokenizer, said.append), tokenizer, TEXTS)
    assert said == ["tokenizing with Hugging Face's tokenizers: ZEROSTREAM_GIGATOKEN is 0"]
