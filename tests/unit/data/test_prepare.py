from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework.config.load import build_config
from framework.config.schema import Config
from framework.data.journal import JOURNAL_NAME
from framework.data.manifest import ShardManifest, Split, load_manifest
from framework.data.prepare import LOCK_NAME, prepare
from framework.data.shards import read_shard
from framework.data.tokenizer import END_OF_TEXT, load_tokenizer
from framework.durable import only_one_writer
from framework.errors import ShardError, SourceError, StorageError, UserError, ZerostreamError
from launch.prepare import run_prepare

SEPARATOR = "<|endoftext|>"


def make_texts(count: int = 300) -> list[str]:
    chooser = random.Random(0)
    words = (
        "the",
        "cat",
        "dog",
        "sat",
        "to",
        "a",
        "red",
        "house",
        "Lily",
        "and",
        "Tom,",
        "said",
        "Bär",
        "🐻",
        "<|endof",
    )
    return [" ".join(chooser.choices(words, k=chooser.randint(20, 120))) for _ in range(count)]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "stories.txt"
    file.write_text(SEPARATOR.join(make_texts()), encoding="utf-8")
    return file


def make_values(path: Path, shards_dir: Path, **data: Any) -> dict[str, Any]:
    values = {"source": "text", "path": str(path), "shards_dir": str(shards_dir)}
    return {
        "data": {**values, "shard_tokens": 3000, "validation_fraction": 0.1, **data},
        "tokenizer": {"vocab_size": 300},
    }


def make_config(path: Path, shards_dir: Path, **data: Any) -> Config:
    return build_config(make_values(path, shards_dir, **data), origin="test")


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def decode_split(folder: Path, manifest: ShardManifest, split: Split) -> list[str]:
    tokenizer = load_tokenizer(folder / "tokenizer")
    documents = []
    for entry in manifest.split(split):
        content = read_shard(folder / entry.name, entry)
        assert str(content.memory.dtype) == manifest.token_dtype
        for document in content.documents():
            *ids, last = document.tolist()
            assert last == tokenizer.end_of_text_id
            assert last not in ids
            documents.append(tokenizer.decode(ids))
    return documents


# --- What is written ---


def test_shards_hold_every_document_in_order_with_end_of_text(text: Path, tmp_path: Path) -> None:
    manifest = prepare(make_config(text, tmp_path / "shards"))
    train = decode_split(tmp_path / "shards", manifest, "train")
    validation = decode_split(tmp_path / "shards", manifest, "validation")
    held_out = set(validation)
    assert train == [each for each in make_texts() if each not in held_out]
    assert validation == [each for each in make_texts() if each in held_out]
    assert 10 < len(validation) < 60
    assert manifest == load_manifest(tmp_path / "shards")
    assert manifest.text_bytes("train") == sum(len(each.encode()) for each in train)
    assert len(manifest.split("train")) > 5
    assert all(entry.tokens >= 3000 for entry in manifest.split("train")[:-1])
    assert manifest.token_dtype == "uint16"
    assert manifest.tokenizer_fingerprint == load_tokenizer(tmp_path / "shards" / "tokenizer").fingerprint


def test_the_same_text_gives_the_same_bytes_wherever_it_lies(text: Path, tmp_path: Path) -> None:
    prepare(make_config(text, tmp_path / "first"))
    (tmp_path / "elsewhere").mkdir()
    text.rename(tmp_path / "elsewhere" / text.name)
    prepare(make_config(tmp_path / "elsewhere" / text.name, tmp_path / "second"))
    assert all_bytes(tmp_path / "first") == all_bytes(tmp_path / "second")


def test_identical_texts_never_stand_on_both_sides_and_none_moves(text: Path, tmp_path: Path) -> None:
    first = prepare(make_config(text, tmp_path / "once"))
    once = set(decode_split(tmp_path / "once", first, "validation"))
    text.write_text(SEPARATOR.join(["new", *make_texts(), *make_texts()]), encoding="utf-8")
    second = prepare(make_config(text, tmp_path / "twice"))
    validation = decode_split(tmp_path / "twice", second, "validation")
    assert set(validation) - {"new"} == once
    assert len(validation) >= 2 * len(once)
    assert not set(validation) & set(decode_split(tmp_path / "twice", second, "train"))


def test_a_validation_text_of_its_own_is_taken_whole(text: Path, tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text(SEPARATOR.join(["held out", "and this"]))
    config = make_config(text, tmp_path / "shards", validation_path=str(tmp_path / "valid.txt"), documents=100)
    manifest = prepare(config)
    assert decode_split(tmp_path / "shards", manifest, "validation") == ["held out", "and this"]
    assert decode_split(tmp_path / "shards", manifest, "train") == make_texts()[:100]


def test_a_vocabulary_beyond_16_bits_is_written_as_uint32(text: Path, tmp_path: Path) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    words = [*sorted(ByteLevel.alphabet()), *(f"unused{number}" for number in range(70_000)), END_OF_TEXT]
    (tmp_path / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    values = make_values(text, tmp_path / "shards", documents=100)
    values["tokenizer"] = {"kind": "pretrained", "path": str(tmp_path)}
    manifest = prepare(build_config(values, origin="test"))
    assert (manifest.token_dtype, manifest.end_of_text_id) == ("uint32", len(words) - 1)
    held_out = set(decode_split(tmp_path / "shards", manifest, "validation"))
    assert decode_split(tmp_path / "shards", manifest, "train") == [
        each for each in make_texts()[:100] if each not in held_out
    ]


def test_the_embedded_stories_need_no_file(tmp_path: Path) -> None:
    values: dict[str, Any] = {"data": {"shards_dir": str(tmp_path), "documents": 200, "validation_fraction": 0.05}}
    values["tokenizer"] = {"vocab_size": 300}
    manifest = prepare(build_config({**values, "seed": 1}, origin="test"))
    assert sum(entry.documents for entry in manifest.shards) == 200
    assert prepare(build_config({**values, "seed": 2}, origin="test")) == manifest


def test_progress_counts_up_to_the_whole_text(text: Path, tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = []
    manifest = prepare(make_config(text, tmp_path / "shards"), progress=lambda **values: calls.append(values))
    size = manifest.text_bytes("train") + manifest.text_bytes("validation")
    assert [call["phase"] for call in calls] == ["tokenizer", "shards"]
    assert [call["documents"] for call in calls] == [300, 300]
    assert [call["text_bytes"] for call in calls] == [size, size]
    assert [call["total_bytes"] for call in calls] == [size, size]


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_says_what_was_written(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    run_prepare(make_config(text, tmp_path / "shards"), as_json=as_json, config_name="configs/mine.yaml")
    output = capsys.readouterr()
    assert "writing shards" in output.err
    if as_json:
        summary = json.loads(output.out)
        assert summary["splits"]["train"]["documents"] + summary["splits"]["validation"]["documents"] == 300
        assert summary["vocab_size"] == 300
    else:
        assert "zerostream train configs/mine.yaml" in output.out
        assert str(tmp_path / "shards") in output.out.replace("\n", "")


# --- Finished, interrupted, killed ---


def test_finished_shards_are_returned_at_once(text: Path, tmp_path: Path) -> None:
    config = make_config(text, tmp_path / "shards")
    first = prepare(config)
    before = all_bytes(tmp_path / "shards")
    calls: list[object] = []
    assert prepare(config, progress=lambda **values: calls.append(values)) == first
    assert calls == []
    assert all_bytes(tmp_path / "shards") == before


CHILD = """
import json, os, signal, sys
from framework.config.load import build_config
from framework.data.prepare import prepare

values, moment = json.loads(sys.argv[1]), int(sys.argv[2])
seen = 0

def kill_at_the_moment(event, arguments):
    global seen
    watched = event in ("open", "os.rename", "os.remove", "os.mkdir")
    if watched and str(arguments[0]).startswith(values["data"]["shards_dir"]):
        seen += 1
        if seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill_at_the_moment)
prepare(build_config(values, origin="child"))
"""


def run_child(values: dict[str, Any], moment: int) -> int:
    """Runs ``prepare`` and kills it with SIGKILL before its ``moment``-th access to the folder."""
    command = [sys.executable, "-c", CHILD, json.dumps(values), str(moment)]
    return subprocess.run(command, capture_output=True, timeout=60).returncode


@pytest.mark.faults
@pytest.mark.parametrize("moment", [1, 5, 8, 11, 14, 19, 30, 45])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(text: Path, tmp_path: Path, moment: int) -> None:
    prepare(make_config(text, tmp_path / "undisturbed"))
    values = make_values(text, tmp_path / "killed")
    assert run_child(values, moment) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    prepare(build_config(values, origin="test"))
    assert all_bytes(tmp_path / "killed") == all_bytes(tmp_path / "undisturbed")


@pytest.mark.faults
def test_killed_again_and_again_it_still_ends_with_the_same_bytes(text: Path, tmp_path: Path) -> None:
    prepare(make_config(text, tmp_path / "undisturbed"))
    values = make_values(text, tmp_path / "killed")
    codes = [run_child(values, 29)]
    while codes[-1] != 0 and len(codes) < 15:
        codes.append(run_child(values, 29))
    assert codes[-1] == 0
    assert codes.count(-signal.SIGKILL) == len(codes) - 1 >= 2
    assert all_bytes(tmp_path / "killed") == all_bytes(tmp_path / "undisturbed")


class Interrupted(Exception):
    """Raised by a test's progress."""


def interrupt(**_: Any) -> None:
    raise Interrupted


def interrupted_config(text: Path, tmp_path: Path) -> Config:
    """A config whose folder holds some finished shards and a journal."""
    config = make_config(text, tmp_path / "shards")
    prepare(config)
    (tmp_path / "shards" / "manifest.json").unlink()
    journal = tmp_path / "shards" / JOURNAL_NAME
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:4]))
    return config


def test_finished_shards_are_not_written_again(text: Path, tmp_path: Path) -> None:
    config = interrupted_config(text, tmp_path)
    first = tmp_path / "shards" / "train-000000.tar"
    before = first.stat().st_mtime_ns, first.stat().st_ino
    prepare(config)
    assert (first.stat().st_mtime_ns, first.stat().st_ino) == before


@pytest.mark.parametrize("damage", ["torn line", "no line end", "shard gone", "shard short", "stray files"])
def test_an_interrupted_folder_is_mended(text: Path, tmp_path: Path, damage: str) -> None:
    prepare(make_config(text, tmp_path / "good"))
    config = interrupted_config(text, tmp_path)
    folder = tmp_path / "shards"
    journal = (folder / JOURNAL_NAME).read_bytes()
    if damage == "torn line":
        (folder / JOURNAL_NAME).write_bytes(journal[:-40])
    elif damage == "no line end":
        (folder / JOURNAL_NAME).write_bytes(journal[:-1])
    elif damage == "shard gone":
        (folder / "train-000001.tar").unlink()
    elif damage == "shard short":
        (folder / "train-000001.tar").write_bytes(b"")
    else:
        (folder / "train-000099.tar").write_bytes(b"unjournaled")
        (folder / "train-000004.tar.tmp").write_bytes(b"half")
        (folder / "manifest.json.tmp").write_bytes(b"half")
        (folder / "tokenizer" / "tokenizer.json.tmp").write_bytes(b"half")
    prepare(config)
    assert all_bytes(folder) == all_bytes(tmp_path / "good")


def test_an_exception_leaves_no_temporary_file_and_no_lock(text: Path, tmp_path: Path) -> None:
    config = make_config(text, tmp_path / "shards", validation_fraction=0.5)

    def interrupt_later(*, phase: str, **_: Any) -> None:
        if phase == "shards":
            raise Interrupted

    with pytest.raises(Interrupted):
        prepare(config, progress=interrupt_later)
    names = set(all_bytes(tmp_path / "shards"))
    assert "manifest.json" not in names
    assert LOCK_NAME not in names
    assert not [name for name in names if name.endswith(".tmp")]
    prepare(config)


def test_an_exception_before_anything_was_written_leaves_no_folder(text: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        prepare(make_config(text, tmp_path / "shards"), progress=interrupt)
    assert not (tmp_path / "shards").exists()


# --- Refusals that touch nothing ---


def assert_refused_untouched(config: Config, kind: type[ZerostreamError], message: str) -> None:
    folder = config.data.shards_dir
    before = all_bytes(folder) if folder.exists() else None
    with pytest.raises(kind, match=message):
        prepare(config)
    assert (all_bytes(folder) if folder.exists() else None) == before


def test_other_settings_are_refused_and_named(text: Path, tmp_path: Path) -> None:
    prepare(make_config(text, tmp_path / "shards"))
    other = make_config(text, tmp_path / "shards", shard_tokens=4000)
    message = r"other settings: data.shard_tokens 4000 \(there: 3000\).*choose another data.shards_dir"
    assert_refused_untouched(other, ShardError, message)
    (tmp_path / "shards" / "manifest.json").unlink()
    assert_refused_untouched(other, ShardError, message)
    text.write_text("longer" + text.read_text())
    assert_refused_untouched(
        make_config(text, tmp_path / "shards"), ShardError, r"data.path \(files\) \[\['stories.txt'"
    )


def test_a_finished_folder_without_journal_still_refuses_other_settings(text: Path, tmp_path: Path) -> None:
    prepare(make_config(text, tmp_path / "shards"))
    (tmp_path / "shards" / JOURNAL_NAME).unlink()
    prepare(make_config(text, tmp_path / "shards"))
    other = make_config(text, tmp_path / "shards", shard_tokens=4000)
    assert_refused_untouched(other, ShardError, "was prepared with other settings")


def test_text_that_changed_without_changing_size_is_refused(text: Path, tmp_path: Path) -> None:
    config = interrupted_config(text, tmp_path)
    original = text.read_text()
    text.write_text("X" + original[1:])
    with pytest.raises(ShardError, match=r"text has changed since train-000000.tar was written.*prepare again"):
        prepare(config)
    text.write_text(original)
    prepare(config)
    os.utime(text)  # newer, but the same
    prepare(config)
    text.write_text("X" + original[1:])
    os.utime(text, (2**31, 2**31))
    assert_refused_untouched(config, ShardError, r"text has changed since .*manifest.json was written")


def test_a_damaged_finished_folder_is_refused(text: Path, tmp_path: Path) -> None:
    prepare(make_config(text, tmp_path / "shards"))
    (tmp_path / "shards" / "train-000001.tar").write_bytes(b"short")
    config = make_config(text, tmp_path / "shards")
    assert_refused_untouched(config, ShardError, "train-000001.tar is missing or not of its manifest's size")
    (tmp_path / "shards" / "manifest.json").write_text("{")
    assert_refused_untouched(config, ShardError, "manifest.json cannot be read")


@pytest.mark.parametrize("name", ["train-000000.tar", "tokenizer/tokenizer.json"])
def test_somebody_elses_files_are_not_overwritten(text: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "shards" / name).parent.mkdir(parents=True)
    (tmp_path / "shards" / name).write_text("precious")
    assert_refused_untouched(make_config(text, tmp_path / "shards"), ShardError, "which no journal accounts for")


def test_a_second_prepare_into_the_same_folder_is_refused(text: Path, tmp_path: Path) -> None:
    config = make_config(text, tmp_path / "shards")
    (tmp_path / "shards").mkdir()
    with (tmp_path / "shards" / LOCK_NAME).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert_refused_untouched(config, ShardError, "another `zerostream prepare` is writing")
    prepare(config)


def test_the_lock_is_not_taken_on_a_file_that_is_gone(tmp_path: Path) -> None:
    with only_one_writer(tmp_path / "lock", refusal=ShardError("it is held", fix="wait")):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize(
    ("content", "data", "message"),
    [
        (b"", {}, "holds no document"),
        (b" \n<|endoftext|>\t", {}, "holds no document"),
        (b"\xff" * 9, {}, r"byte 0 \(0xff\) is not utf-8"),
        (b"one<|endoftext|>two", {"validation_fraction": 0.0}, "raise data.validation_fraction"),
        (b"one<|endoftext|>two", {"validation_fraction": 1e-9}, "none of 2 documents falls into validation"),
        (b"one<|endoftext|>two", {"validation_fraction": 0.999999}, "all of 2 documents fall into validation"),
        (b'{"text": "half \\ud83d"}\n', {"source": "jsonl"}, "document 1 of the train text is not Unicode"),
        (b"one", {"validation_path": "/absent"}, "data.validation_path /absent does not exist"),
    ],
)
def test_refused_text_leaves_no_folder(tmp_path: Path, content: bytes, data: dict[str, Any], message: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    config = make_config(tmp_path / "a.txt", tmp_path / "shards", **data)
    assert_refused_untouched(config, SourceError, message)
    assert not (tmp_path / "shards").exists()


def test_text_that_breaks_off_later_leaves_no_manifest(text: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    text.rename(tmp_path / "text" / "a.txt")
    (tmp_path / "text" / "b.txt").write_bytes(b"\xff" * 9)
    values = make_values(tmp_path / "text", tmp_path / "shards")
    tokenizer_folder = tmp_path / "pretrained"
    load_or_train(tmp_path / "text" / "a.txt", tokenizer_folder)
    values["tokenizer"] = {"kind": "pretrained", "path": str(tokenizer_folder)}
    with pytest.raises(SourceError, match=r"b.txt: byte 0 \(0xff\)"):
        prepare(build_config(values, origin="test"))
    names = set(all_bytes(tmp_path / "shards"))
    assert not names & {"manifest.json", LOCK_NAME}
    assert not [name for name in names if name.endswith(".tmp")]


def load_or_train(text: Path, folder: Path) -> None:
    prepare(make_config(text, folder.parent / "for-the-tokenizer"))
    (folder.parent / "for-the-tokenizer" / "tokenizer").rename(folder)


# --- The file system says no ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 160 KiB; skips where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root; the file size limit is tested instead")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.faults
def test_a_full_disk_is_said_and_gone_on_from(text: Path, tmp_path: Path, small_disk: Path) -> None:
    def byte_tokens(shards_dir: Path) -> Config:  # 2 bytes on disk for each of text: more than is foreseen
        return build_config({**make_values(text, shards_dir), "tokenizer": {"vocab_size": 257}}, origin="test")

    prepare(byte_tokens(tmp_path / "undisturbed"))
    config = byte_tokens(small_disk / "shards")
    with pytest.raises(StorageError, match=r"cannot be written: No space left .*MB free.*free space.*goes on"):
        prepare(config)
    names = set(all_bytes(small_disk / "shards"))
    assert "train-000000.tar" in names
    assert not [name for name in names if name.endswith(".tmp") or name == "manifest.json"]
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    prepare(config)
    assert all_bytes(small_disk / "shards") == all_bytes(tmp_path / "undisturbed")


@pytest.mark.faults
def test_a_disk_that_cannot_hold_the_shards_is_refused_before_writing(
    text: Path, tmp_path: Path, small_disk: Path
) -> None:
    text.write_text(SEPARATOR.join(make_texts(1200)))
    assert_refused_untouched(
        make_config(text, small_disk / "shards"), StorageError, "0.2 MB free, the shards need about"
    )


@pytest.mark.faults
def test_a_read_only_disk_is_said(text: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match=r"Read-only file system.*choose a folder you may write to"):
        prepare(make_config(text, small_disk / "shards", documents=100))


@pytest.mark.faults
def test_a_file_size_limit_is_said_and_gone_on_from(text: Path, tmp_path: Path) -> None:
    config = make_config(text, tmp_path / "shards", shard_tokens=20_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(StorageError, match=r"train-000000.tar cannot be written: File too large"):
            prepare(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [name for name in all_bytes(tmp_path / "shards") if name.endswith(".tmp")]
    prepare(config)


def test_a_folder_that_cannot_be_made_is_said(text: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/shards cannot be written: Not a directory"):
        prepare(make_config(text, tmp_path / "file" / "shards"))


def test_every_refusal_ends_with_exit_code_2() -> None:
    assert {error.exit_code for error in (UserError, StorageError)} == {2}


def test_torch_is_not_needed() -> None:
    program = "import sys, framework.data.prepare, launch.prepare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_tokens_are_little_endian_on_every_machine(text: Path, tmp_path: Path) -> None:
    manifest = prepare(make_config(text, tmp_path / "shards"))
    entry = manifest.split("train")[0]
    assert read_shard(tmp_path / "shards" / entry.name, entry).memory.dtype == np.dtype("<u2")
