from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import pytest

from launch.slurm import health

RefusedError = ConnectionRefusedError(111, "Connection refused")


def look(run_dir: Path, **values: object) -> dict[str, object]:
    given: dict[str, object] = {
        "scratch": None,
        "gpus": 0,
        "probe": None,
        "minimum_megabytes_per_second": None,
        **values,
    }
    return health.look("n1", run_dir, **given)  # type: ignore[arg-type]


def test_a_healthy_node_has_no_problems_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert look(tmp_path) == {"node": "n1", "problems": []}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    assert look(tmp_path / "away")["problems"] == [f"{tmp_path}/away is not there"]
    assert look(tmp_path, scratch=tmp_path / "fast")["problems"] == [f"{tmp_path}/fast is not there"]


@pytest.mark.skipif(not Path("/proc/sys").is_dir(), reason="needs a folder that refuses even root")
def test_a_folder_that_refuses_is_named() -> None:
    (problem,) = look(Path("/proc/sys"))["problems"]  # type: ignore[misc]
    assert problem.startswith("/proc/sys cannot be written: ")


def test_a_disk_that_is_nearly_full_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "free_bytes", lambda path: 3 * 2**20)
    assert look(tmp_path)["problems"] == [f"{tmp_path} has 3 MB left"]


@pytest.mark.parametrize(
    ("script", "problems"),
    [
        ("printf 'GPU 0: H100 (UUID: a)\\nGPU 1: H100 (UUID: b)\\n'", []),
        ("printf 'GPU 0: H100 (UUID: a)\\n'", ["1 of 2 GPUs are there"]),
        (
            "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
            ["nvidia-smi failed: Failed to"],
        ),
    ],
)
def test_missing_gpus_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, problems: list[str]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = look(tmp_path, gpus=2)["problems"]
    assert isinstance(found, list)
    assert [each[: len(problem)] for each, problem in zip(found, problems, strict=True)] == problems


def test_a_node_without_the_drivers_tool_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look(tmp_path, gpus=1)["problems"] == ["nvidia-smi is not there, so no GPU can be counted"]


# --- The link ---


def test_the_link_to_the_first_node_is_measured(tmp_path: Path) -> None:
    server = health.LinkServer()
    try:
        report = look(tmp_path, probe=lambda: health.measure_link("127.0.0.1", server.port, 30))
    finally:
        server.close()
    assert report["problems"] == []
    speed, trip = report["megabytes_per_second"], report["round_trip_seconds"]
    assert isinstance(speed, float)
    assert isinstance(trip, float)
    assert speed > 1
    assert 0 < trip < 10


def test_several_nodes_may_measure(tmp_path: Path) -> None:
    server = health.LinkServer()
    found: list[tuple[float, float]] = []
    threads = [
        threading.Thread(target=lambda: found.append(health.measure_link("127.0.0.1", server.port, 30)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    server.close()
    assert len(found) == 3


@pytest.mark.parametrize(("speed", "problems"), [(120.0, []), (80.0, ["80.0 MB/s to the first node, less than 100"])])
def test_a_slow_link_is_a_problem_if_the_profile_says_so(tmp_path: Path, speed: float, problems: list[str]) -> None:
    assert look(tmp_path, probe=lambda: (speed, 0.001), minimum_megabytes_per_second=100.0)["problems"] == problems
    assert look(tmp_path, probe=lambda: (speed, 0.001))["problems"] == []


def test_a_link_that_fails_is_a_problem(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    report = look(tmp_path, probe=lambda: health.measure_link("127.0.0.1", port, 5))
    assert report["problems"] == ["the link to the first node failed: Connection refused"]


def test_a_report_that_cannot_be_kept_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    health.save(tmp_path / "file" / "report.json", {"node": "n1", "problems": []})
    health.save(tmp_path / "folder" / "report.json", health.missing_report("n2", "did not report", 60))
    assert json.loads((tmp_path / "folder" / "report.json").read_text())["problems"] == ["did not report within 60 s"]
