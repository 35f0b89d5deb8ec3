from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from framework.config.schema import DataConfig, MixturePart
from framework.data.corpus import Corpus, load_corpus, local_corpus, refuse_odd_shards
from framework.data.manifest import MANIFEST_NAME, ShardManifest
from framework.errors import ConfigError, ShardError

WriteShards = Callable[..., ShardManifest]
STORIES = [[[1, 2, 3], [4, 5]], [[6, 7]]]
POEMS = [[[8, 9]], [[10], [11, 12]]]


@pytest.fixture
def folders(tmp_path: Path, write_shards: WriteShards) -> tuple[Path, Path]:
    write_shards(tmp_path / "stories", STORIES, [[[1, 2]]])
    write_shards(tmp_path / "poems", POEMS, [[[3]]])
    return tmp_path / "stories", tmp_path / "poems"


def mixture_of(*parts: tuple[Path, float]) -> Corpus:
    return load_corpus(
        DataConfig(mixture=tuple(MixturePart(shards_dir=folder, weight=weight) for folder, weight in parts))
    )


# --- What it says ---


def test_a_single_set_keeps_its_manifests_fingerprint(folders: tuple[Path, Path]) -> None:
    corpus = load_corpus(DataConfig(shards_dir=folders[0]))
    manifest = corpus.parts[0].manifest
    assert corpus.data_fingerprint == manifest.data_fingerprint
    assert corpus.data_fingerprint == mixture_of((folders[0], 3.5)).data_fingerprint
    assert (corpus.vocab_size, corpus.end_of_text_id) == (manifest.vocab_size, manifest.end_of_text_id)
    assert corpus.tokens("train") == manifest.tokens("train")


def test_a_mixture_counts_all_parts(folders: tuple[Path, Path]) -> None:
    corpus = mixture_of((folders[0], 0.5), (folders[1], 0.25))
    assert [part.share for part in corpus.parts] == [2, 1]
    assert corpus.tokens("train") == 10 + 8
    assert corpus.tokens("validation") == 3 + 2
    assert [shard.source.where(shard.entry) for shard in corpus.split("validation")] == [
        f"{folder}/validation-000000.tar" for folder in folders
    ]


def test_weights_and_parts_change_the_fingerprint_and_folders_do_not(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    stories, poems = folders
    same = mixture_of((stories, 2), (poems, 1)).data_fingerprint
    moved = stories.rename(tmp_path / "moved")
    assert mixture_of((moved, 0.5), (poems, 0.25)).data_fingerprint == same
    others = [
        mixture_of((moved, 1), (poems, 1)),
        mixture_of((poems, 2), (moved, 1)),
        mixture_of((moved, 1), (moved, 1)),
    ]
    assert len({same, *(other.data_fingerprint for other in others)}) == 4


# --- What is refused ---


@pytest.mark.parametrize(
    ("key", "value"),
    [("tokenizer_fingerprint", "9" * 64), ("vocab_size", 512), ("end_of_text_id", 1), ("token_dtype", "uint32")],
)
def test_parts_with_different_tokens_are_refused(folders: tuple[Path, Path], key: str, value: object) -> None:
    other = local_corpus(folders[1]).parts[0].manifest
    dataclasses.replace(other, **{key: value}).save(folders[1])  # type: ignore[arg-type]
    with pytest.raises(ShardError, match=f"different tokens: {key}.*one tokenizer"):
        mixture_of((folders[0], 1), (folders[1], 1))


def test_a_part_without_text_to_train_on_is_refused(
    folders: tuple[Path, Path], tmp_path: Path, write_shards: WriteShards
) -> None:
    write_shards(tmp_path / "empty", [], [[[1]]])
    with pytest.raises(ShardError, match="empty hold no text to train on"):
        mixture_of((folders[0], 1), (tmp_path / "empty", 1))


def test_a_part_without_a_manifest_is_refused(folders: tuple[Path, Path]) -> None:
    (folders[1] / MANIFEST_NAME).unlink()
    with pytest.raises(ShardError, match=r"poems holds no manifest\.json"):
        mixture_of((folders[0], 1), (folders[1], 1))


def test_a_cache_of_two_remotes_and_a_cache_that_is_read_as_local_are_refused(folders: tuple[Path, Path]) -> None:
    def parts(*remotes: str | None) -> tuple[MixturePart, ...]:
        return tuple(MixturePart(shards_dir=folders[0], weight=1, remote=remote) for remote in remotes)

    for remotes in (("https://a/shards", "https://b/shards"), ("https://a/shards", None)):
        with pytest.raises(ConfigError, match=r"two parts of data\.mixture have the shards_dir .*stories") as caught:
            load_corpus(DataConfig(mixture=parts(*remotes)))
        assert "shards_dir of its own" in caught.value.fix


# --- Shards that are not what the manifest says, by name and size ---


def truncate(folder: Path) -> None:
    path = folder / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:-512])


def remove(folder: Path) -> None:
    (folder / "train-000001.tar").unlink()


def empty(folder: Path) -> None:
    (folder / "train-000001.tar").write_bytes(b"")


def add(folder: Path) -> None:
    (folder / "train-000009.tar").write_bytes((folder / "train-000000.tar").read_bytes())


@pytest.mark.parametrize(
    ("damage", "said"),
    [(truncate, "train-000001.tar has"), (remove, "train-000001.tar is missing"), (empty, "train-000001.tar has 0 bytes"),
     (add, "train-000009.tar is not in the manifest")],
)  # fmt: skip
def test_odd_shards_of_any_part_are_refused_unless_they_are_to_be_skipped(
    folders: tuple[Path, Path], damage: Callable[[Path], None], said: str
) -> None:
    corpus = mixture_of((folders[0], 1), (folders[1], 1))
    refuse_odd_shards(corpus)
    damage(folders[1])
    with pytest.raises(ShardError, match=said) as caught:
        refuse_odd_shards(corpus)
    assert str(folders[1]) in caught.value.cause
    assert caught.value.fix
    refuse_odd_shards(dataclasses.replace(corpus, on_bad_shard="skip"))
