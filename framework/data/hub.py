"""The Hugging Face hub, or a folder of the same form: read whole, or shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.config.schema import DataConfig
from framework.data.rows import text_of_row
from framework.errors import SourceError

if TYPE_CHECKING:
    import datasets

ROW_RUNS = 1024
"""A data set that was saved to disk has rows instead of shards: it is opened in so many runs of them."""


def read_hub(data: DataConfig, split: str | None) -> Iterator[str]:
    """The documents of one split of the data set, blank ones among them, in its order.

    Raises:
        SourceError: it cannot be opened, or breaks off.
    """
    described = f"data.path {data.path}, split {split}"
    return _texts_of_hub(_iterate_hub(_open_hub(data, split), described), data.text_field, described)


def open_hub_shards(data: DataConfig, split: str | None) -> list[Callable[[], Iterator[str]]]:
    """Opens each of the data set's own shards; one after the other they give the documents of ``read_hub``.

    Raises:
        SourceError: as ``read_hub``.
    """
    import datasets

    rows = _open_hub(data, split)
    shards = min(ROW_RUNS, len(rows)) if isinstance(rows, datasets.Dataset) else rows.num_shards

    def open_shard(index: int) -> Iterator[str]:
        described = f"data.path {data.path}, split {split}, shard {index}"
        shard = _iterate_hub(rows.shard(shards, index, contiguous=True), described)
        return _texts_of_hub(shard, data.text_field, described)

    return [partial(open_shard, index) for index in range(shards)]


def _texts_of_hub(rows: Iterator[dict[str, Any]], field: str, described: str) -> Iterator[str]:
    number = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # network, parsing, decompression: a dozen classes with one meaning here
            raise _hub_refusal(f"{described} breaks off after row {number}", error) from error
        number += 1
        yield text_of_row(row, field, f"{described}, row {number}")


def _iterate_hub(rows: Iterable[dict[str, Any]], described: str) -> Iterator[dict[str, Any]]:
    try:
        return iter(rows)
    except Exception as error:  # as in opening it
        raise _hub_refusal(f"{described} cannot be opened", error) from error


def _open_hub(data: DataConfig, split: str | None) -> datasets.Dataset | datasets.IterableDataset:
    import datasets

    assert data.path  # checked with the config
    folder = Path(data.path).expanduser()
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
            stored = datasets.load_from_disk(str(folder))  # what Dataset.save_to_disk wrote
            rows = stored[split] if isinstance(stored, datasets.DatasetDict) else stored
        else:
            name = str(folder) if folder.is_dir() else data.path
            rows = datasets.load_dataset(name, data.hub_config, split=split, streaming=True)
    except Exception as error:  # not found, offline, gated, unknown split or configuration, malformed files
        raise _hub_refusal(f"data.path {data.path}, split {split} cannot be opened", error) from error
    return rows


def _hub_refusal(what: str, error: Exception) -> SourceError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return SourceError(
        f"{what}: {reason}",
        fix="check data.path, data.hub_config, data.hub_split and the network, or download it and name its files by "
        "data.source=parquet or jsonl",
    )
