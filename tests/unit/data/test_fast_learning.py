from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.config.load import build_config
from framework.data import tokenizer as tokenizers_of_ours
from framework.data.embedded import generate_stories
from framework.data.fast_learning import SAMPLE_CHARACTERS, Merges, byte_symbols, learn_merges
from framework.data.fast_library import UnfitError
from framework.data.tokenizer import END_OF_TEXT, Tokenizer, build_tokenizer

needs_gigatoken = pytest.mark.usefixtures("gigatoken")


@pytest.fixture(scope="module")
def gigatoken() -> None:
    pytest.importorskip("gigatoken", reason="the extra `fast` is not installed")


def learn(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    config = build_config({"tokenizer": {"kind": "train_bpe"}}, origin="test")
    assert config.tokenizer.vocab_size is None
    return build_tokenizer(config, texts) if vocab_size == 4096 else tokenizers_of_ours._train_bpe(texts, vocab_size)


def standard(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    return Tokenizer(tokenizers_of_ours._trained(texts, vocab_size))


def merges_of(tokenizer: Tokenizer) -> Merges:
    return [tuple(pair) for pair in json.loads(tokenizer.to_json())["model"]["merges"]]


def make_text(characters: int, words: int, seed: int) -> list[str]:
    """Documents of invented words, frequent and rare ones."""
    chooser = random.Random(seed)
    letters = "etaoinshrdlu" * 3 + "cmfwypvbgkjqxzé兔"
    known = ["".join(chooser.choices(letters, k=chooser.randint(1, 9))) for _ in range(words)]
    weights = [1 / (rank + 1) for rank in range(words)]
    documents = []
    while characters > 0:
        chosen = chooser.choices(known, weights, k=200)
        documents.append(" ".join(chosen) + chooser.choice([".", "!\n\n", " 12 it's"]))
        characters -= len(documents[-1])
    return documents


def test_bytes_are_written_as_tokenizers_writes_them() -> None:
    from tokenizers import pre_tokenizers

    symbols = byte_symbols()
    assert len(symbols) == len(set(symbols)) == 256
    assert set(symbols) == set(pre_tokenizers.ByteLevel.alphabet())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for code in range(0x800):  # each byte that can stand in a character of one or two
        written = "".join(symbols[byte] for byte in chr(code).encode())
        assert [piece for piece, _ in byte_level.pre_tokenize_str(chr(code))] == [written]


@needs_gigatoken
@pytest.mark.parametrize(("words", "vocab_size"), [(20_000, 4096), (20_000, 300), (700, 4096)])
def test_much_text_gives_the_tokenizer_of_the_trainer(
    words: int, vocab_size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """700 words come to an end before there are 4,096 tokens."""
    texts = make_text(1_200_000, words, seed=words)
    learned = learn(texts, vocab_size)
    assert capsys.readouterr() == ("", "")  # the fast way was taken, and nothing was printed
    assert learned.fingerprint == standard(texts, vocab_size).fingerprint
    assert (learned.vocab_size < vocab_size) == (words == 700)


@needs_gigatoken
def test_the_stories_that_we_carry_give_the_tokenizer_of_the_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    texts = list(generate_stories(2_500, seed=1))
    learned = learn(texts, 4096)
    assert capsys.readouterr() == ("", "")
    assert learned.fingerprint == standard(texts, 4096).fingerprint


@needs_gigatoken
@settings(deadline=None, max_examples=25)
@given(
    texts=st.lists(st.text("ab '1é\n", min_size=1, max_size=80) | st.text(max_size=30), min_size=1, max_size=12),
    vocab_size=st.integers(258, 330),
)
def test_any_text_gives_the_merges_of_the_trainer_or_a_reason(texts: list[str], vocab_size: int) -> None:
    def trainer(sample: Sequence[str]) -> Merges:
        assert list(sample) == texts
        return expected

    expected = merges_of(standard(texts, vocab_size))
    try:
        learned = learn_merges(texts, vocab_size, END_OF_TEXT, trainer)
    except UnfitError as reason:
        assert "gigatoken sorts a character" in str(reason) or "come to an end" in str(reason)  # noqa: PT017
    else:
        assert learned == expected


@needs_gigatoken
def test_what_is_learned_otherwise_from_the_beginning_is_not_believed() -> None:
    texts = make_text(2 * SAMPLE_CHARACTERS, 5_000, seed=3)
    given_samples = []

    def trainer(sample: Sequence[str]) -> Merges:
        given_samples.append(sample)
        return merges_of(standard(sample, 400))[:-1]

    with pytest.raises(UnfitError, match="learns something else from the beginning"):
        learn_merges(texts, 400, END_OF_TEXT, trainer)
    assert sum(map(len, given_samples[0])) == SAMPLE_CHARACTERS


def test_without_gigatoken_the_trainer_does_it_and_tokenizing_will_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    texts = make_text(1_200_000, 3_000, seed=5)
    assert learn(texts, 300).fingerprint == standard(texts, 300).fingerprint
    assert capsys.readouterr() == ("", "")


@needs_gigatoken
def test_a_character_that_is_sorted_otherwise_leaves_it_to_the_trainer_with_a_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from framework.data.fast_library import compared_sorts

    sorts = compared_sorts()
    odd = next((character for character in map(chr, range(0x10900, 0x34000)) if not sorts.agree_on(character)), None)
    if odd is None:
        pytest.skip("the two libraries follow the same Unicode")
    texts = [*make_text(1_200_000, 3_000, seed=6), f"a {odd}"]
    assert learn(texts, 300).fingerprint == standard(texts, 300).fingerprint
    said = capsys.readouterr().err
    assert said.startswith("zerostream: learning the tokenizer with Hugging Face's tokenizers: gigatoken sorts a char")


@needs_gigatoken
def test_a_library_that_dies_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(UnfitError, match="gigatoken cannot learn from this text: it ended without a word"):
        learn_merges(["some text"], 300, END_OF_TEXT, lambda sample: [])
