from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.errors import ConfigError
from launch.slurm.profile import Profile, load_profile, memory_megabytes, time_limit_seconds

PROFILES = Path(__file__).parents[4] / "slurm" / "profiles"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_loads(path: Path) -> None:
    assert load_profile(path).ranks_of_node(None) >= 1


def test_there_are_examples_for_common_sites() -> None:
    assert {"local", "gpu_nodes", "containers", "preemptible", "cpu"} <= {path.stem for path in PROFILES.glob("*.yaml")}


@pytest.mark.parametrize(
    ("text", "cause", "fix"),
    [
        ("partitoin: gpu", "unknown key partitoin", "write partition"),
        ("time_limt: '10:00'", "unknown key time_limt", "write time_limit"),
        ("signal_lead_seconds: soon", "signal_lead_seconds is 'soon'", "correct signal_lead_seconds"),
        ("max_starts_without_progress: 0", "max_starts_without_progress is 0", "correct max_starts"),
        ("time_limit: 2:00:00", "time_limit is the number 7200", 'time_limit: "2:00:00"'),
        ("time_limit: tomorrow", "'tomorrow' is no time limit", "correct time_limit"),
        ("time_limit: '0'", "'0' is no time at all", "correct time_limit"),
        ("memory: lots", "'lots' is no amount of memory", "correct memory"),
        ("partition: ''", "is empty", "correct partition"),
        ("exclude: ['node1; rm -rf /']", "is no node name", "correct exclude"),
        ("environment: {'A B': x}", "'A B' is no name of a variable", "correct environment"),
        ("setup: module load cuda", "setup is 'module load cuda'", "write a list, such as setup: [...]"),
        ("python: ''", "is empty", "correct python"),
        ("sbatch_arguments: {hold: false}", "hold is False: write its value, or true", "correct sbatch_arguments"),
    ],
)
def test_a_refusal_names_the_key_and_what_to_do(tmp_path: Path, text: str, cause: str, fix: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load_profile(path)
    assert cause in refused.value.cause
    assert str(path) in refused.value.cause
    assert fix in refused.value.fix


def test_a_missing_profile_names_those_beside_it(tmp_path: Path) -> None:
    written(tmp_path, "partition: gpu")
    with pytest.raises(ConfigError, match="does not exist") as refused:
        load_profile(tmp_path / "sit.yaml")
    assert str(tmp_path / "site.yaml") in refused.value.fix


def test_the_interpreters_home_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert load_profile(written(tmp_path, "python: ~/venv/bin/python")).python == "/home/ada/venv/bin/python"


def test_numbers_that_are_names_become_text(tmp_path: Path) -> None:
    profile = load_profile(written(tmp_path, "account: 1234\nmemory: 0\nenvironment: {NCCL_DEBUG: 1}"))
    assert (profile.account, profile.memory, profile.environment) == ("1234", "0", {"NCCL_DEBUG": "1"})


@pytest.mark.parametrize(
    ("profile", "asked", "ranks"),
    [
        ({}, None, 1),
        ({}, 4, 4),
        ({"gpus_per_node": 8}, None, 8),
        ({"gpus_per_node": 8, "ranks_per_node": 2}, None, 2),
        ({"gpus_per_node": 8}, 3, 3),
        ({"gres": "gpu:h100:4"}, None, 4),
        ({"gres": "gpu:2,nvme:1"}, None, 2),
        ({"gres": "gpu"}, None, 1),
        ({"gres": "nvme:1"}, None, 1),
    ],
)
def test_ranks_of_a_node(profile: dict[str, object], asked: int | None, ranks: int) -> None:
    assert Profile.model_validate(profile).ranks_of_node(asked) == ranks


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("1:30:00", 5400),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("2-00:00:01", 172801),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert time_limit_seconds(text) == seconds


@given(st.integers(0, 30), st.integers(0, 23), st.integers(0, 59), st.integers(1, 59))
def test_a_time_limit_is_the_sum_of_its_parts(days: int, hours: int, minutes: int, seconds: int) -> None:
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert time_limit_seconds(f"{days}-{hours:02}:{minutes:02}:{seconds:02}") == total


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "-1", "1-", "0-0", "1:60h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        time_limit_seconds(text)


def test_memory_is_read_as_slurm_reads_it() -> None:
    assert [memory_megabytes(text) for text in ("512", "2G", "1T", "2048K")] == [512, 2048, 2**20, 2]
