from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.data.documents import Document
from framework.data.part_log import PartLog, StoredBatch, read_record


def make_documents(count: int, seed: int) -> list[Document]:
    return [
        Document(
            hashlib.blake2b(f"{seed} {index}".encode(), digest_size=16).digest(),
            index * 7,
            "validation" if index % 3 == 0 else "train",
        )
        for index in range(count)
    ]


@contextmanager
def opened(path: Path) -> Iterator[PartLog]:
    log = PartLog(path)
    try:
        yield log
    finally:
        log.close()


def complete(path: Path, counts: list[int], dtype: str = "uint16") -> int:
    """Appends what is missing of the batches; returns how many were there."""
    stored = 0
    with opened(path) as log:
        for batch, count in enumerate(counts):
            documents = make_documents(count, batch)
            if (found := log.next_stored()) is not None:
                assert found.is_of(0, batch, documents)
                stored += 1
                continue
            lengths = [index + 1 for index in range(count)]
            log.append(0, batch, documents, np.arange(sum(lengths), dtype=dtype), lengths)
        assert log.next_stored() is None
        log.sync()
        assert log.size_bytes == path.stat().st_size
    return stored


def read_all(path: Path) -> list[StoredBatch]:
    found = []
    with path.open("rb") as file:
        while (record := read_record(file, file.tell())) is not None:
            found.append(record)
    return found


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_what_was_appended_is_read_back(tmp_path: Path, dtype: str) -> None:
    complete(tmp_path / "log", [3, 0, 5], dtype)
    records = read_all(tmp_path / "log")
    assert [(record.piece, record.batch) for record in records] == [(0, 0), (0, 1), (0, 2)]
    assert str(records[0].tokens.dtype) == dtype
    assert records[1].documents() == []
    for record, count, seed in zip(records, (3, 0, 5), (0, 1, 2), strict=True):
        documents = record.documents()
        expected = make_documents(count, seed)
        assert [(each.digest, each.text_bytes, each.split) for each in documents] == [
            (each.digest, each.text_bytes, each.split) for each in expected
        ]
        start = 0
        for index, document in enumerate(documents):
            assert document.tokens.tolist() == list(range(start, start + index + 1))
            start += index + 1
    assert not records[2].is_of(0, 2, make_documents(5, 3))
    assert not records[2].is_of(1, 2, make_documents(5, 2))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_torn_anywhere_the_whole_records_stay_and_the_same_bytes_come_again(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    counts = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    complete(path, counts)
    whole = path.read_bytes()
    sizes = [len(record.tokens) for record in read_all(path)]
    assert len(sizes) == len(counts)
    if data.draw(st.booleans(), label="cut short"):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
    damaged = path.read_bytes() != whole
    kept = complete(path, counts)
    assert path.read_bytes() == whole
    assert kept < len(counts) if damaged else kept == len(counts)
    assert complete(path, counts) == len(counts)
