"""``prepare`` in N parts ends with the bytes of ``prepare`` in one, whatever happens on the way."""

from __future__ import annotations

import csv
import fcntl
import gzip
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.config.load import build_config
from framework.config.schema import Config
from framework.data import documents, part_beginning
from framework.data.cut import PartNumber
from framework.data.journal import JOURNAL_NAME
from framework.data.parts_folder import PARTS_FOLDER, PartsFolder
from framework.data.prepare import LOCK_NAME, prepare
from framework.data.prepare_part import PartOutcome, prepare_part
from framework.errors import ShardError, SourceError, StorageError, WaitError, ZerostreamError

SEPARATOR = "<|endoftext|>"
BATCH_BYTES = 4000


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few documents a batch, so that a small text has many."""
    monkeypatch.setattr(documents, "BATCH_BYTES", BATCH_BYTES)
    monkeypatch.setattr(part_beginning, "BATCH_BYTES", BATCH_BYTES)


def make_texts(count: int = 240, seed: int = 0) -> list[str]:
    chooser = random.Random(seed)
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
    return [" ".join(chooser.choices(words, k=chooser.randint(5, 120))) for _ in range(count)]


def write_source(folder: Path, kind: str, texts: list[str]) -> dict[str, Any]:
    """Writes the texts as one kind of source; returns its keys of ``data``."""
    folder.mkdir()
    thirds = [texts[:30], [], texts[30:130], texts[130:140], texts[140:]]
    if kind == "text":
        (folder / "a.txt").write_text(SEPARATOR.join(texts), encoding="utf-8")
    elif kind == "text files":
        for number, some in enumerate(thirds):
            (folder / f"{number}.txt").write_text(SEPARATOR.join([*some, "  \n"]), encoding="utf-8")
    elif kind == "gz files":
        for number, some in enumerate(thirds):
            (folder / f"{number}.txt.gz").write_bytes(gzip.compress(SEPARATOR.join(some).encode(), mtime=0))
    elif kind in ("jsonl", "hub"):
        for number, some in enumerate(each for each in thirds if each or kind == "jsonl"):
            lines = [json.dumps({"text": text}) + "\n" for text in some]
            (folder / f"train-{number}.jsonl").write_text("".join(lines), encoding="utf-8")
    elif kind == "csv":
        for number, some in enumerate(thirds):
            with (folder / f"{number}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([["id", "text"], *([index, text] for index, text in enumerate(some))])
    elif kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        for number, some in enumerate(thirds):
            table = pyarrow.table({"text": pyarrow.array(some, pyarrow.string())})
            pyarrow.parquet.write_table(table, folder / f"{number}.parquet", row_group_size=20)
    elif kind == "saved hub":
        import datasets

        datasets.Dataset.from_dict({"text": texts}).save_to_disk(str(folder / "saved"))
        return {"source": "hub", "path": str(folder / "saved")}
    else:
        return {"source": kind, "documents": 150}
    return {"source": kind.split()[0].replace("gz", "text"), "path": str(folder)}


def make_values(shards_dir: Path, **data: Any) -> dict[str, Any]:
    return {
        "data": {"shards_dir": str(shards_dir), "shard_tokens": 3000, "validation_fraction": 0.1, **data},
        "tokenizer": {"vocab_size": 300},
    }


def make_config(shards_dir: Path, **data: Any) -> Config:
    return build_config(make_values(shards_dir, **data), origin="test")


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def do_parts(config: Config, numbers: list[int], of: int) -> list[PartOutcome]:
    return [prepare_part(config, PartNumber(number, of)) for number in numbers]


@pytest.fixture
def text(tmp_path: Path) -> dict[str, Any]:
    """One file."""
    return write_source(tmp_path / "text", "text", make_texts())


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Five files, one of them without a document."""
    return write_source(tmp_path / "files", "text files", make_texts())


# --- The same bytes ---


@pytest.mark.parametrize(
    "kind", ["text", "text files", "gz files", "jsonl", "csv", "parquet", "hub", "saved hub", "embedded"]
)
def test_any_number_of_parts_in_any_order_gives_the_bytes_of_one(tmp_path: Path, kind: str) -> None:
    data = write_source(tmp_path / "source", kind, make_texts())
    manifest = prepare(make_config(tmp_path / "alone", **data))
    assert len(manifest.split("train")) > 3
    expected = all_bytes(tmp_path / "alone")
    for of in (1, 2, 3, 4) if "hub" not in kind else (1, 3):  # which takes seconds to open
        numbers = random.Random(of).sample(range(1, of + 1), of)
        folder = tmp_path / f"of {of}"
        *earlier, last = do_parts(make_config(folder, **data), numbers, of)
        assert [outcome.manifest for outcome in earlier] == [None] * (of - 1)
        assert last.manifest == manifest
        assert all_bytes(folder) == expected
        assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["tokenizer"]


@pytest.mark.parametrize("kind", ["text", "text files", "jsonl", "parquet", "hub"])
def test_the_work_is_really_divided(tmp_path: Path, kind: str) -> None:
    data = write_source(tmp_path / "source", kind, make_texts())
    outcomes = do_parts(make_config(tmp_path / "shards", **data), [1, 2, 3], 3)
    done = [outcome.done.documents for outcome in outcomes if outcome.done]
    assert sum(done) == 240
    assert max(done) < 160


def test_more_parts_than_documents(tmp_path: Path) -> None:
    data = write_source(tmp_path / "source", "text", make_texts(5)) | {"validation_fraction": 0.5}
    manifest = prepare(make_config(tmp_path / "alone", **data))
    outcomes = do_parts(make_config(tmp_path / "shards", **data), list(range(1, 10)), 9)
    assert outcomes[-1].manifest == manifest
    assert sum(outcome.done.documents for outcome in outcomes if outcome.done) == 5
    assert all_bytes(tmp_path / "shards") == all_bytes(tmp_path / "alone")


@pytest.mark.parametrize("limit", [None, 100])
def test_a_validation_text_and_a_limit(tmp_path: Path, files: dict[str, Any], limit: int | None) -> None:
    held_out = write_source(tmp_path / "valid", "text files", make_texts(150, seed=1))
    data = files | {"validation_path": held_out["path"], "documents": limit}
    prepare(make_config(tmp_path / "alone", **data))
    do_parts(make_config(tmp_path / "shards", **data), [3, 1, 2], 3)
    assert all_bytes(tmp_path / "shards") == all_bytes(tmp_path / "alone")


def test_a_pretrained_tokenizer_of_32_bits(tmp_path: Path, files: dict[str, Any]) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    words = [*sorted(ByteLevel.alphabet()), *(f"unused{number}" for number in range(70_000)), SEPARATOR]
    (tmp_path / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = {"tokenizer": {"kind": "pretrained", "path": str(tmp_path)}}
    manifest = prepare(build_config(make_values(tmp_path / "alone", **files) | tokenizer, origin="test"))
    assert manifest.token_dtype == "uint32"
    do_parts(build_config(make_values(tmp_path / "shards", **files) | tokenizer, origin="test"), [2, 1], 2)
    assert all_bytes(tmp_path / "shards") == all_bytes(tmp_path / "alone")


# --- Progress, and what is there already ---


def test_progress_of_parts_and_merge_counts_up_to_the_text(tmp_path: Path, files: dict[str, Any]) -> None:
    config = make_config(tmp_path / "shards", **files)
    calls: list[dict[str, Any]] = []
    outcomes = [
        prepare_part(config, PartNumber(number, 2), progress=lambda **values: calls.append(values)) for number in (1, 2)
    ]
    phases = [phase for phase, _ in itertools.groupby(call["phase"] for call in calls)]
    assert phases == ["tokenizer", "part", "merge"]
    last = {phase: [call for call in calls if call["phase"] == phase][-1] for phase in phases}
    assert last["merge"]["documents"] == 240
    assert last["merge"]["text_bytes"] == last["merge"]["total_bytes"]
    done = outcomes[1].done
    assert done is not None
    assert (last["part"]["documents"], last["part"]["text_bytes"]) == (done.documents, done.text_bytes)


def test_finished_parts_and_finished_shards_are_not_done_again(tmp_path: Path, text: dict[str, Any]) -> None:
    config = make_config(tmp_path / "shards", **text)
    [first] = do_parts(config, [1], 2)
    log = PartsFolder(tmp_path / "shards").log(1)
    before = log.stat().st_mtime_ns
    [again] = do_parts(config, [1], 2)
    assert (again.done, again.missing) == (first.done, (2,))
    assert log.stat().st_mtime_ns == before
    [last] = do_parts(config, [2], 2)
    before_bytes = all_bytes(tmp_path / "shards")
    for number, of in ((1, 2), (2, 2), (3, 7)):
        [outcome] = do_parts(config, [number], of)
        assert (outcome.manifest, outcome.done, outcome.missing) == (last.manifest, None, ())
    assert prepare(config) == last.manifest
    assert all_bytes(tmp_path / "shards") == before_bytes


def test_prepare_alone_merges_what_parts_have_finished(tmp_path: Path, text: dict[str, Any]) -> None:
    prepare(make_config(tmp_path / "alone", **text))
    config = make_config(tmp_path / "shards", **text)
    do_parts(config, [1], 2)
    folder = PartsFolder(tmp_path / "shards")
    with folder.lock(2).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert_refused_untouched(config, None, r"in 2 parts, of which 2 is not finished \(at work now: 2\).*wait for")
    assert_refused_untouched(config, None, r"of which 2 is not finished\. .*run it with --part 2/2, or remove")
    with (tmp_path / "shards" / LOCK_NAME).open("w") as held:  # somebody else merges
        fcntl.flock(held, fcntl.LOCK_EX)
        [outcome] = do_parts(config, [2], 2)
        assert (outcome.manifest, outcome.missing) == (None, ())
    prepare(config)
    assert all_bytes(tmp_path / "shards") == all_bytes(tmp_path / "alone")


@pytest.mark.parametrize("alone", [True, False])
def test_what_a_merge_killed_behind_its_manifest_leaves_is_removed(
    tmp_path: Path, text: dict[str, Any], alone: bool
) -> None:
    config = make_config(tmp_path / "shards", **text)
    do_parts(config, [1, 2], 2)
    before = all_bytes(tmp_path / "shards")
    (tmp_path / "shards" / PARTS_FOLDER).mkdir()
    (tmp_path / "shards" / PARTS_FOLDER / "part-00001.log").write_bytes(b"left")
    if alone:
        prepare(config)
    else:
        do_parts(config, [1], 2)
    assert all_bytes(tmp_path / "shards") == before
    assert not (tmp_path / "shards" / PARTS_FOLDER).exists()


def test_the_command_says_what_a_part_has_done_and_what_is_missing(
    tmp_path: Path, text: dict[str, Any], run_cli: Callable[..., Any]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(make_values(tmp_path / "shards", **text)))
    refused = run_cli("prepare", config, "--part", "5/4")
    assert (refused.code, refused.out) == (2, "")
    assert "--part 5/4: parts are counted from 1 to 4" in refused.last_line
    assert not (tmp_path / "shards").exists()
    first = run_cli("prepare", config, "data.shard_tokens=5000", "--part", "2/3")
    assert first.code == 0
    assert "part 2/3: tokenizing" in first.err
    assert "part 2/3: " in first.out
    assert f"not finished yet: part 1/3 and 1 more; the last one merges, or: zerostream prepare {config}" in first.out
    second = json.loads(run_cli("prepare", config, "data.shard_tokens=5000", "--part", "3/3", "--json").out)
    assert (second["part"], second["missing_parts"], second["is_merged"]) == (3, [1], False)
    last = json.loads(run_cli("prepare", config, "data.shard_tokens=5000", "--part", "1/3", "--json").out)
    assert (last["missing_parts"], last["is_merged"]) == ([], True)
    alone = json.loads(run_cli("prepare", config, "data.shard_tokens=5000", "--json").out)
    assert {key: last[key] for key in alone if key != "seconds"} == {
        key: alone[key] for key in alone if key != "seconds"
    }


# --- Killed ---


CHILD = """
import json, os, signal, sys
from framework.config.load import build_config
from framework.data import documents, part_beginning
from framework.data.cut import PartNumber
from framework.data.prepare_part import prepare_part

documents.BATCH_BYTES = part_beginning.BATCH_BYTES = {batch_bytes}
values, part, moment = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
seen = 0

def kill_at_the_moment(event, arguments):
    global seen
    watched = event in ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "shutil.rmtree")
    if watched and str(arguments[0]).startswith(values["data"]["shards_dir"]):
        seen += 1
        if seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill_at_the_moment)
prepare_part(build_config(values, origin="child"), PartNumber.parse(part))
"""


def run_child(values: dict[str, Any], part: str, moment: int) -> int:
    """Does a part and kills it with SIGKILL before its ``moment``-th access to the folder; 0: lets it finish."""
    command = [sys.executable, "-c", CHILD.format(batch_bytes=BATCH_BYTES), json.dumps(values), part, str(moment)]
    return subprocess.run(command, capture_output=True, timeout=60).returncode


@pytest.mark.faults
@pytest.mark.parametrize(
    ("moment", "other_is_finished"),
    [(1, False), (5, False), (10, False), (13, False), (8, True), (12, True), (18, True), (30, True), (50, True)],
)
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    tmp_path: Path, text: dict[str, Any], moment: int, other_is_finished: bool
) -> None:
    """A part that learns the tokenizer; and one that merges, as the other is finished."""
    prepare(make_config(tmp_path / "alone", **text))
    values = make_values(tmp_path / "killed", **text)
    if other_is_finished:
        do_parts(make_config(tmp_path / "killed", **text), [2], 2)
    assert run_child(values, "1/2", moment) == -signal.SIGKILL
    do_parts(make_config(tmp_path / "killed", **text), [1, 2], 2)
    assert all_bytes(tmp_path / "killed") == all_bytes(tmp_path / "alone")


@pytest.mark.faults
def test_killed_again_and_again_it_still_ends_with_the_same_bytes(tmp_path: Path, files: dict[str, Any]) -> None:
    prepare(make_config(tmp_path / "alone", **files))
    values = make_values(tmp_path / "killed", **files)
    for part in ("1/2", "2/2"):
        codes = [run_child(values, part, 45)]
        # Each start lives a little longer: how many accesses one needs before it can go on depends on its threads.
        while codes[-1] != 0 and len(codes) < 20:
            codes.append(run_child(values, part, 45 + 8 * len(codes)))
        assert codes[-1] == 0
    assert codes.count(-signal.SIGKILL) == len(codes) - 1 >= 2, "the merge was not killed"
    assert all_bytes(tmp_path / "killed") == all_bytes(tmp_path / "alone")


class Interrupted(Exception):
    """Raised by a test's progress."""


def test_a_part_goes_on_with_the_batches_in_its_log(tmp_path: Path, text: dict[str, Any]) -> None:
    prepare(make_config(tmp_path / "alone", **text))
    config = make_config(tmp_path / "shards", **text)

    def interrupt(*, phase: str, documents: int, **_: Any) -> None:
        if phase == "part" and documents > 30:
            raise Interrupted

    with pytest.raises(Interrupted):
        prepare_part(config, PartNumber(1, 2), progress=interrupt)
    log = PartsFolder(tmp_path / "shards").log(1)
    half = log.read_bytes()
    log.write_bytes(half + b"zsbatch1 torn")
    do_parts(config, [1], 2)
    assert log.read_bytes()[: len(half)] == half
    assert len(log.read_bytes()) > len(half) > 1000
    do_parts(config, [2], 2)
    assert all_bytes(tmp_path / "shards") == all_bytes(tmp_path / "alone")


# --- At the same time ---


def test_real_processes_at_the_same_time(tmp_path: Path, files: dict[str, Any]) -> None:
    """Through the command line: one learns the tokenizer, the others wait, the last one merges, all end with 0."""
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(make_values(Path("unused"), **files)))
    command = [sys.executable, "-m", "launch.cli", "prepare", str(config), "--json"]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    started = [
        subprocess.Popen(
            [*command, f"data.shards_dir={tmp_path / 'shards'}", "--part", f"{number}/3"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in (1, 2, 3)
    ]
    alone = subprocess.run([*command, f"data.shards_dir={tmp_path / 'alone'}"], capture_output=True, env=environment)
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended
    assert alone.returncode == 0
    summaries = [json.loads(out) for out, _ in ended]
    assert [summary["part"] for summary in summaries] == [1, 2, 3]
    assert sum(summary["part_documents"] for summary in summaries) == 240
    merged = [summary for summary in summaries if summary["is_merged"]]
    assert len(merged) >= 1
    assert merged[0]["data_fingerprint"] == json.loads(alone.stdout)["data_fingerprint"]
    assert sum("learning the tokenizer" in err and "waiting" not in err for _, err in ended) == 1
    assert all_bytes(tmp_path / "shards") == all_bytes(tmp_path / "alone")


def test_who_waits_goes_on_in_the_place_of_one_that_died(tmp_path: Path, text: dict[str, Any]) -> None:
    prepare(make_config(tmp_path / "alone", **text))
    folder = tmp_path / "shards"
    folder.mkdir()
    program = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(folder / LOCK_NAME)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    waits: list[str] = []

    def kill_the_holder(*, phase: str, **_: Any) -> None:
        waits.append(phase)
        if waits == ["waiting", "waiting"]:
            holder.kill()

    prepare_part(make_config(folder, **text), PartNumber(1, 1), progress=kill_the_holder)
    holder.communicate()
    assert waits[:2] == ["waiting", "waiting"]
    assert "tokenizer" in waits
    assert all_bytes(folder) == all_bytes(tmp_path / "alone")


def test_waiting_has_an_end(tmp_path: Path, text: dict[str, Any]) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    with (folder / LOCK_NAME).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        started = time.monotonic()
        with pytest.raises(WaitError, match=r"part 1/2 has waited 1 s for the tokenizer.*still holds .*prepare.lock"):
            prepare_part(make_config(folder, **text), PartNumber(1, 2), patience_seconds=0.6)
        assert time.monotonic() - started >= 0.6
    assert WaitError("x", fix="y").exit_code == 1
    do_parts(make_config(folder, **text), [1, 2], 2)


def test_a_part_that_another_process_is_at_is_refused(tmp_path: Path, text: dict[str, Any]) -> None:
    config = make_config(tmp_path / "shards", **text)
    do_parts(config, [1], 2)
    with PartsFolder(tmp_path / "shards").lock(2).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert_refused_untouched(config, (2, 2), r"part 2/2 of data.shards_dir .* by another process")
    do_parts(config, [2], 2)


# --- Refused ---


def assert_refused_untouched(
    config: Config, part: tuple[int, int] | None, message: str, kind: type[ZerostreamError] = ShardError
) -> None:
    folder = config.data.shards_dir
    before = all_bytes(folder) if folder.exists() else None
    with pytest.raises(kind, match=message) as refused:
        prepare(config) if part is None else prepare_part(config, PartNumber(*part))
    assert refused.value.exit_code == 2
    assert (all_bytes(folder) if folder.exists() else None) == before


def test_other_numbers_of_parts_and_other_settings_are_refused(tmp_path: Path, text: dict[str, Any]) -> None:
    folder = tmp_path / "shards"
    config = make_config(folder, **text)
    do_parts(config, [1], 3)
    assert_refused_untouched(
        config, (1, 4), r"in 3 parts, not in 4.*write --part K/3, or remove .*parts to begin again"
    )
    other = make_config(folder, **text, shard_tokens=4000)
    message = r"with other settings: data.shard_tokens 4000 \(there: 3000\)"
    assert_refused_untouched(other, (2, 3), message)
    assert_refused_untouched(other, None, message)
    file = Path(text["path"]) / "a.txt"
    file.write_text("longer" + file.read_text(encoding="utf-8"), encoding="utf-8")
    assert_refused_untouched(config, (2, 3), r"data.path \(files\) \[\['a.txt'")


def test_parts_of_a_version_that_cuts_otherwise_are_refused(
    tmp_path: Path, text: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path / "shards", **text)
    do_parts(config, [1], 2)
    monkeypatch.setattr(part_beginning, "BATCH_BYTES", 5000)
    assert_refused_untouched(config, (2, 2), "were cut otherwise: by another version")


def test_a_folder_that_was_begun_alone_is_refused(tmp_path: Path, text: dict[str, Any]) -> None:
    config = make_config(tmp_path / "shards", **text)
    prepare(config)
    (tmp_path / "shards" / "manifest.json").unlink()
    assert_refused_untouched(config, (1, 2), "was begun without --part. .*run it without --part")
    (tmp_path / "shards" / JOURNAL_NAME).unlink()
    assert_refused_untouched(config, (1, 2), "which no journal accounts for")


def change(file: Path) -> None:
    """Other text of the same size, and newer whatever the file system's clock says."""
    file.write_text(file.read_text(encoding="utf-8").replace("cat", "dog"), encoding="utf-8")
    os.utime(file, (2**31, 2**31))


def test_parts_that_have_read_different_texts_are_refused(tmp_path: Path, text: dict[str, Any]) -> None:
    config = make_config(tmp_path / "shards", **text)
    do_parts(config, [1], 2)
    change(Path(text["path"]) / "a.txt")
    with pytest.raises(ShardError, match=r"parts 1 and 2 of data.shards_dir .* have read different texts"):
        do_parts(config, [2], 2)
    assert not (tmp_path / "shards" / "manifest.json").exists()


def test_a_text_that_changes_before_the_merge_is_refused(tmp_path: Path, files: dict[str, Any]) -> None:
    prepare(make_config(tmp_path / "alone", **files))
    config = make_config(tmp_path / "shards", **files)
    do_parts(config, [1], 2)
    with (tmp_path / "shards" / LOCK_NAME).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        do_parts(config, [2], 2)
    last = Path(files["path"]) / "4.txt"
    original = last.read_text(encoding="utf-8")
    change(last)
    with pytest.raises(ShardError, match="the text has changed since the parts were begun"):
        prepare(config)
    assert not (tmp_path / "shards" / "manifest.json").exists()
    last.write_text(original, encoding="utf-8")
    prepare(config)
    assert all_bytes(tmp_path / "shards") == all_bytes(tmp_path / "alone")


def test_a_text_that_changes_after_the_tokenizer_is_refused(tmp_path: Path, files: dict[str, Any]) -> None:
    """All parts have read the new text: only the tokenizer tells that it is not the one that they were begun with."""
    config = make_config(tmp_path / "shards", **files)

    def interrupt(*, phase: str, **_: Any) -> None:
        if phase == "part":
            raise Interrupted

    with pytest.raises(Interrupted):
        prepare_part(config, PartNumber(1, 2), progress=interrupt)
    PartsFolder(tmp_path / "shards").log(1).unlink()
    change(Path(files["path"]) / "4.txt")
    with pytest.raises(ShardError, match="the text has changed since the parts were begun"):
        do_parts(config, [1, 2], 2)


def test_an_interrupted_part_whose_text_has_changed_is_refused(tmp_path: Path, text: dict[str, Any]) -> None:
    config = make_config(tmp_path / "shards", **text)
    do_parts(config, [1], 2)
    folder = PartsFolder(tmp_path / "shards")
    next(folder.path.glob("*.done.json")).unlink()
    change(Path(text["path"]) / "a.txt")
    assert_refused_untouched(config, (1, 2), r"text has changed since .*part-00001.log was written")


def test_damage_is_found_before_there_is_a_manifest(tmp_path: Path, text: dict[str, Any]) -> None:
    prepare(make_config(tmp_path / "alone", **text))
    config = make_config(tmp_path / "shards", **text)
    do_parts(config, [1, 2], 3)
    folder = PartsFolder(tmp_path / "shards")
    log = folder.log(2)
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    with pytest.raises(ShardError, match=r"part-00002.log is damaged.*remove .*part-00002.done.json and run that part"):
        do_parts(config, [3], 3)
    assert not (tmp_path / "shards" / "manifest.json").exists()
    (folder.path / "part-00002.done.json").unlink()
    do_parts(config, [2], 3)
    assert all_bytes(tmp_path / "shards") == all_bytes(tmp_path / "alone")


@pytest.mark.parametrize(
    ("name", "content"),
    [("plan.json", "{"), ("plan.json", "[]"), ("plan.json", "{}"), ("tokenizer/tokenizer.json", "{}")],
)
def test_a_damaged_plan_is_refused(tmp_path: Path, text: dict[str, Any], name: str, content: str) -> None:
    config = make_config(tmp_path / "shards", **text)
    do_parts(config, [1], 2)
    (tmp_path / "shards" / PARTS_FOLDER / name).write_text(content)
    assert_refused_untouched(config, (2, 2), r"cannot be read: .*remove .*parts and begin the parts again")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"pieces": [1]}'])
def test_a_damaged_end_of_a_part_is_refused(tmp_path: Path, text: dict[str, Any], content: str) -> None:
    config = make_config(tmp_path / "shards", **text)
    do_parts(config, [1], 2)
    (tmp_path / "shards" / PARTS_FOLDER / "part-00001.done.json").write_text(content)
    assert_refused_untouched(config, (1, 2), "part-00001.done.json cannot be read")


def test_refused_text_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff" * 9)
    config = make_config(tmp_path / "shards", source="text", path=str(tmp_path / "a.txt"))
    assert_refused_untouched(config, (1, 2), r"byte 0 \(0xff\) is not utf-8", SourceError)
    assert not config.data.shards_dir.exists()


@pytest.mark.faults
def test_a_full_disk_is_said_and_gone_on_from(tmp_path: Path, text: dict[str, Any]) -> None:
    import resource

    prepare(make_config(tmp_path / "alone", **text))
    config = make_config(tmp_path / "shards", **text)
    do_parts(config, [1], 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    try:
        with pytest.raises(StorageError, match=r"part-00002.log cannot be written: File too large.*goes on"):
            do_parts(config, [2], 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    do_parts(config, [2], 2)
    assert all_bytes(tmp_path / "shards") == all_bytes(tmp_path / "alone")
