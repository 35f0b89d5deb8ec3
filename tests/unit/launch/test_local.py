from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from launch.local import _message, _root_cause

NOW = 1_800_000_000


def failure(tmp_path: Path, rank: int, exit_code: int, after: int = 0) -> ProcessFailure:
    """As torch's agent makes it from what a rank of ours has written."""
    error_file = tmp_path / f"{rank}.json"
    details = {"message": f"rank {rank} says so", "extraInfo": {"timestamp": str(NOW + after), "py_callstack": ""}}
    error_file.write_text(json.dumps({"message": details}))
    return ProcessFailure(rank, 1000 + rank, exit_code, str(error_file))


@pytest.mark.parametrize(
    ("exits", "root"),
    [
        ({0: (1, 0), 1: (-9, 1)}, 1),  # rank 0 lost its connection to the killed one, and was seen a second earlier
        ({0: (75, 0), 1: (-9, 0)}, 1),  # rank 0 was told to end because of it
        ({0: (75, 0), 1: (1, 1)}, 1),
        ({0: (1, 0), 1: (2, 0)}, 1),
        ({0: (2, 0), 1: (2, 0)}, 0),
        ({0: (75, 0), 1: (75, 1)}, 0),
        ({0: (75, 0), 1: (-15, 0)}, 0),  # rank 1 was still ending when the agent told it to
        ({0: (1, 0), 1: (-9, 4)}, 1),  # on a busy machine the agent looks late
        ({0: (-9, 10), 1: (1, 0)}, 1),  # rank 0 did not end by itself: the agent killed it ten seconds later
    ],
)
def test_the_root_cause_is_the_rank_that_made_the_others_end(
    tmp_path: Path, exits: dict[int, tuple[int, int]], root: int
) -> None:
    failures = {rank: failure(tmp_path, rank, code, after) for rank, (code, after) in exits.items()}
    assert _root_cause(failures)[0] == root
    assert _root_cause(dict(reversed(failures.items())))[0] == root


def test_a_rank_is_quoted_without_what_torch_packs_around_it(tmp_path: Path) -> None:
    assert _message(failure(tmp_path, 1, 2)) == "rank 1 says so"
    assert "Signal 9" in _message(ProcessFailure(1, 1001, -9, str(tmp_path / "none.json")))
