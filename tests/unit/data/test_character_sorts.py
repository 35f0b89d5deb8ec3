from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import tokenizers

from framework.data.character_sorts import CharacterSorts, Encode, probe_vocabulary


def encoder_of(normalize: Callable[[str], str] = str) -> Encode:
    """`tokenizers`, after the text was changed: a library that takes some characters for others."""
    backend = tokenizers.Tokenizer.from_str(probe_vocabulary())
    return lambda texts: [backend.encode(normalize(text)).ids for text in texts]


@pytest.mark.parametrize(
    ("one", "other", "is_seen"),
    [
        ("é", "…", True),  # letter, mark
        ("é", "٣", True),  # letter, number
        ("½", "…", True),  # number, mark
        ("\u3000", "…", True),  # space, mark
        ("\u3000", "字", True),
        ("兔", "字", False),  # letters both
        ("\u3000", "\u2003", False),
    ],
)
def test_the_probe_shows_the_sort_of_a_character(one: str, other: str, is_seen: bool) -> None:
    """By where bytes merge; characters of one sort merge alike, whatever their bytes."""
    encode = encoder_of()
    merged = [
        [
            [index for index, token in enumerate(ids) if token >= 256]
            for ids in encode([f"a{each}", f"1{each}", f"!{each}"])
        ]
        for each in (one, other)
    ]
    assert (merged[0] != merged[1]) == is_seen


def test_a_text_with_a_character_of_another_sort_is_named_and_others_are_not() -> None:
    sorts = CharacterSorts(encoder_of(), encoder_of(lambda text: text.replace("é", "…")))
    assert sorts.ascii_agrees
    assert sorts.agree_on("plain text")
    assert sorts.agree_on("兔子 … ½")
    assert not sorts.agree_on("a café")
    assert not sorts.agree_on("a café")


def test_each_character_is_compared_once() -> None:
    asked: list[str] = []
    standard = encoder_of()

    def recording(texts: Sequence[str]) -> Sequence[Sequence[int]]:
        asked.extend(texts)
        return standard(texts)

    sorts = CharacterSorts(recording, standard)
    before = len(asked)
    assert sorts.agree_on("ééé 兔é")
    assert sorts.agree_on("é兔")
    assert len(asked) - before == 2


def test_a_library_that_is_wrong_in_ascii_is_found_at_once() -> None:
    assert not CharacterSorts(encoder_of(), encoder_of(lambda text: text.replace("_", "x"))).ascii_agrees
