"""What is refused before anything is queued or written, with a `sinfo` that answers as a real one did."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from framework.durable import only_one_writer
from framework.errors import UserError
from framework.run_dir import RunDir
from launch.slurm.job import Job, JobDir
from launch.slurm.planning import Request, plan_job
from launch.slurm.profile import Profile
from tests.unit.conftest import RunCli
from tests.unit.launch.slurm.captured import NO_CONTROLLER
from tests.unit.launch.slurm.conftest import SCRIPT, Commands

SINFO = """\
batch|batch*|up|1:00:00|n1|127.0.0.1|4000|2|(null)|idle
urgent|urgent|up|infinite|n1|127.0.0.1|4000|2|(null)|idle
batch|batch*|up|1:00:00|n2|127.0.0.1|8000|2|(null)|alloc
urgent|urgent|up|infinite|n2|127.0.0.1|8000|2|(null)|alloc
gpu|gpu|up|2-00:00:00|g1|127.0.0.1|900000|64|gpu:h100:8(S:0-1)|mix
gpu|gpu|up|2-00:00:00|g2|127.0.0.1|900000|64|gpu:h100:8(S:0-1)|idle
far|far|up|1:00:00|f1|no-such-host.invalid|4000|2|(null)|idle
far|far|up|1:00:00|f2|127.0.0.1|4000|2|(null)|idle
closed|closed|down|1:00:00|n1|127.0.0.1|4000|2|(null)|idle
"""
QUIET = ("", "", 0)
Ask = Callable[..., Request]


def seen(job_id: str, state: str, script: object = SCRIPT) -> str:
    return f"{job_id}|{state}|batch|2|1795629486|1795629489|N/A|n1|None|{script}\n"


@pytest.fixture
def slurm(commands: Commands) -> Path:
    """SLURM's commands on the path; the file says how they were called."""
    names = ("sbatch", "srun", "scontrol", "squeue", "scancel")
    return commands({**dict.fromkeys(names, QUIET), "sinfo": (SINFO, "", 0)})


@pytest.fixture
def ask(tmp_path: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """A request for the tiny run, into a folder of the test, on a cluster with these lines in its profile."""
    monkeypatch.chdir(tmp_path)

    def make(profile: str = "", *overrides: str, **values: object) -> Request:
        cluster = tmp_path / "site.yaml"
        cluster.write_text(profile)
        return Request(config=tiny_config, cluster=cluster, **{"overrides": overrides, **values})  # type: ignore[arg-type]

    return make


def test_what_the_profile_leaves_open_slurm_answers(slurm: Path, ask: Ask) -> None:
    plan = plan_job(ask("", nodes=2))
    assert (plan.job.nodes, plan.job.ranks, plan.job.time_limit) == (2, 2, "1:00:00")
    assert plan.job.profile.cpus_per_task == 1
    assert plan.batch is not None
    assert plan.batch.ranks == 2
    assert plan.job.command[:2] == ("train", str(JobDir(plan.run_dir).config))
    assert not plan.run_dir.exists()


def test_the_partitions_default_time_comes_before_its_limit(slurm: Path, ask: Ask, commands: Commands) -> None:
    commands({"sinfo": ("batch|batch*|up|1:00:00|n1|127.0.0.1|4000|2|(null)|idle|30:00\n", "", 0)})
    assert plan_job(ask()).job.time_limit == "30:00"
    assert plan_job(ask("time_limit: '40:00'")).job.time_limit == "40:00"
    assert plan_job(ask("time_limit: '40:00'", time_limit="50:00")).job.time_limit == "50:00"


@pytest.mark.parametrize(
    ("profile", "cpus"),
    [
        ("partition: gpu\ngpus_per_node: 8\nranks_per_node: 1", 64),
        ("partition: gpu\ngpus_per_node: 2\nranks_per_node: 1", 16),
        ("partition: gpu\nexclusive: true", 64),
        ("partition: gpu\ncpus_per_task: 7", 7),
        ("partition: gpu\nranks_per_node: 2", 2),
    ],
)
def test_a_node_gets_its_share_of_cores(slurm: Path, ask: Ask, profile: str, cpus: int) -> None:
    assert plan_job(ask(profile)).job.profile.cpus_per_task == cpus


@pytest.mark.parametrize(
    ("profile", "values", "cause", "fix"),
    [
        (
            "partition: bacth",
            {},
            "partition bacth does not exist; there are batch, closed, far, gpu, urgent",
            "partition: batch",
        ),
        ("partition: closed", {}, "partition closed is down", "batch"),
        ("", {"nodes": 3}, "--nodes 3 is more than partition batch has: 2 nodes", "--nodes 2 or fewer"),
        ("exclude: [n1]", {"nodes": 2}, "2 nodes, 1 of them excluded", "--nodes 1 or fewer"),
        ("time_limit: '2:00:00'", {}, "time limit 2:00:00 is beyond the 1:00:00", "--time 1:00:00 or less"),
        ("", {"time_limit": "90"}, "time limit 90 is beyond", "goes on in its next start"),
        ("", {"time_limit": "soon"}, "'soon' is no time limit", "2:00:00"),
        ("time_limit: '1'", {}, "leaves no time to train", "signal_lead_seconds"),
        ("cpus_per_task: 3", {}, "cpus_per_task 3 is more than any node", "2 or less"),
        ("memory: 9000M", {}, "memory 9000M is more than any node", "8000M or less"),
        ("gpus_per_node: 1", {}, "gpus_per_node 1 is more than any node of partition batch has (0)", "with GPUs"),
        ("partition: gpu\ngpus_per_node: 9", {"ranks_per_node": 1}, "(8)", "8 or less"),
        ("partition: far", {"nodes": 2}, "names of nodes f1 do not resolve", "/etc/hosts"),
        ("shared: [/nowhere]", {}, "is not below a folder that all nodes share (/nowhere)", "shared"),
        ("", {"nodes": 2, "ranks_per_node": 3}, "6 ranks cannot share the batch", "ranks"),
        ("", {"command": "trian"}, "--command trian", "--command train"),
        ("", {"command": "prepare", "nodes": 2}, "prepare starts ranks on one node only", "--nodes 1"),
        ("", {"command": "finetune"}, "names no plugin that fine-tunes", "leave --command out"),
        ("", {"array_parallelism": 2}, "--at-a-time 2 without an array", "--sweep"),
        ("", {"overrides": ("--nproc=2",)}, "--nproc=2 is no override", "key.path=value"),
        ("", {"tasks": (("-seed=1",),)}, "-seed=1 is no override", "key.path=value"),
        ("", {"run_dir": Path("a\\b")}, "has a backslash in it", "another name"),
    ],
)
def test_what_does_not_fit_is_refused(
    slurm: Path, ask: Ask, tmp_path: Path, profile: str, values: dict[str, object], cause: str, fix: str
) -> None:
    request = ask(profile, **values)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as refused:
        plan_job(request)
    assert cause in refused.value.cause
    assert fix in refused.value.fix
    assert refused.value.exit_code == 2
    assert [path for path in sorted(tmp_path.rglob("*")) if path != slurm] == before


def test_one_node_needs_no_names(slurm: Path, ask: Ask) -> None:
    assert plan_job(ask("partition: far", nodes=1)).job.nodes == 1


def test_a_bad_name_may_be_excluded(slurm: Path, ask: Ask) -> None:
    with pytest.raises(UserError, match="--nodes 2 is more"):
        plan_job(ask("partition: far\nexclude: [f1]", nodes=2))


def test_missing_shards_are_told_before_the_queue(slurm: Path, ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no shards in") as refused:
        plan_job(ask("", f"data.shards_dir={tmp_path}/nothing"))
    assert "zerostream prepare" in refused.value.fix


@pytest.mark.parametrize("missing", ["sbatch", "srun", "sinfo", "scontrol", "squeue", "scancel"])
def test_a_machine_without_slurm_is_told(slurm: Path, ask: Ask, tmp_path: Path, missing: str) -> None:
    (tmp_path / "bin" / missing).unlink()
    with pytest.raises(UserError, match=f"{missing} is not on the path"):
        plan_job(ask())


def test_a_run_that_is_queued_or_live_is_not_submitted_again(
    slurm: Path, ask: Ask, commands: Commands, make_job: Callable[..., Job]
) -> None:
    plan = plan_job(ask())
    JobDir(plan.run_dir).write(make_job(job_id="12", script=SCRIPT))
    for state in ("PENDING", "RUNNING", "COMPLETING"):
        commands({"squeue": (seen("12", state), "", 0)})
        with pytest.raises(UserError, match=f"already job 12 .{state.lower()}"):
            plan_job(ask())
    for answer in (
        (seen("12", "COMPLETED"), "", 0),
        (seen("12", "RUNNING", script="/another/run/slurm/script.sh"), "", 0),
        ("", "slurm_load_jobs error: Invalid job id specified\n", 1),
    ):
        commands({"squeue": answer})
        assert plan_job(ask()).job.job_id is None
    RunDir(plan.run_dir).path.mkdir(exist_ok=True)
    with (
        only_one_writer(RunDir(plan.run_dir).lock, refusal=UserError("held", fix="wait")),
        pytest.raises(UserError, match="another start of this run is alive"),
    ):
        plan_job(ask())


def test_every_task_of_an_array_is_checked(slurm: Path, ask: Ask) -> None:
    with pytest.raises(UserError, match=r"unknown key optimizer\.ir"):
        plan_job(ask("", tasks=(("optimizer.lr=1e-3",), ("optimizer.ir=1e-3",))))


def test_a_shared_folder_covers_what_a_link_points_to(slurm: Path, ask: Ask, tmp_path: Path, tiny_shards: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert plan_job(ask(f"shared: [{tmp_path}/real, {tiny_shards}]", f"run_dir={tmp_path}/link/run")).job.nodes == 1


def test_a_benchmark_is_submitted_with_its_own_options(slurm: Path, ask: Ask, tmp_path: Path) -> None:
    cluster = ask().cluster
    request = Request(config=Path("benchmarks.checkpoint"), cluster=cluster, overrides=("--ranks", "2"))
    plan = plan_job(request)
    assert (plan.job.kind, plan.job.command) == ("benchmark", ("benchmarks.checkpoint", "--ranks", "2"))
    assert plan.run_dir.name == "benchmarks.checkpoint"


@pytest.mark.parametrize(
    ("name", "values", "cause", "fix"),
    [
        ("benchmarks.chekpoint", {}, "there is no benchmarks.chekpoint", "write benchmarks.checkpoint"),
        ("benchmarks.checkpoint", {"command": "prepare"}, "is a benchmark", "leave out --sweep, --command and --tasks"),
        (
            "benchmarks.checkpoint",
            {"tasks": (("seed=1",),)},
            "is a benchmark",
            "leave out --sweep, --command and --tasks",
        ),
    ],
)
def test_what_is_no_job_of_a_benchmark_is_refused(
    slurm: Path, ask: Ask, name: str, values: dict[str, object], cause: str, fix: str
) -> None:
    with pytest.raises(UserError) as refused:
        plan_job(replace(ask(**values), config=Path(name)))
    assert cause in refused.value.cause
    assert fix in refused.value.fix


def test_a_fine_tuning_of_one_fold_is_refused(slurm: Path, ask: Ask) -> None:
    lora = "plugins.lora={base: runs/base, task: classification, fold: 1}"
    with pytest.raises(UserError, match=r"plugins\.lora\.fold is set"):
        plan_job(ask("", lora, command="finetune"))


def test_shards_that_nodes_do_not_see_are_refused(slurm: Path, ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    with pytest.raises(UserError, match=r"data\.shards_dir .* is not below a folder that all nodes share") as refused:
        plan_job(ask(f"shared: [{tmp_path}/shared]", f"run_dir={tmp_path}/shared/run"))
    assert "set data.shards_dir" in refused.value.fix


def test_a_run_that_has_finished_is_not_submitted_again(slurm: Path, ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "runs/default").mkdir(parents=True)
    (tmp_path / "runs/default/result.json").write_text("{}")
    with pytest.raises(UserError, match="has finished"):
        plan_job(ask())


# --- The command ---


def test_the_dry_run_prints_the_script_and_writes_nothing(
    slurm: Path, ask: Ask, run_cli: RunCli, tmp_path: Path, tiny_config: Path
) -> None:
    cluster = ask("partition: batch").cluster
    before = sorted(tmp_path.rglob("*"))
    result = run_cli("submit", tiny_config, "--cluster", cluster, "--nodes", "2", "--dry-run")
    assert result.code == 0, result.err
    assert "#SBATCH --nodes=2" in result.out
    assert "launch.slurm.node" in result.out
    assert "x 2 ranks" in result.out
    assert [path for path in sorted(tmp_path.rglob("*")) if path != slurm] == before


def test_the_dry_run_does_not_wait_for_a_controller_that_is_away(
    slurm: Path, ask: Ask, run_cli: RunCli, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slurm.parent / "bin" / "sinfo").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr("launch.slurm.dry_run._SECONDS", 0.2)
    result = run_cli("submit", tiny_config, "--cluster", ask("partition: anything").cluster, "--dry-run")
    assert result.code == 0, result.err
    assert "did not answer within 0 s" in result.out


def test_what_does_not_fit_into_memory_is_told_at_the_submission(
    slurm: Path, ask: Ask, commands: Commands, run_cli: RunCli, tiny_config: Path
) -> None:
    commands({"sbatch": ("Submitted batch job 41\n", "", 0)})
    result = run_cli("submit", tiny_config, "--cluster", ask("memory: 100M").cluster, "run_dir=runs/a b")
    assert result.code == 0, result.err
    assert "warning  memory DOES NOT FIT" in result.out
    assert "GiB too much for a rank" in result.out
    assert "zerostream status 'runs/a b'" in result.out
    assert "DOES NOT FIT" not in run_cli("submit", tiny_config, "--cluster", ask().cluster).out


def test_the_dry_run_needs_no_slurm(
    ask: Ask, run_cli: RunCli, tiny_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = ask("partition: anything").cluster
    monkeypatch.setenv("PATH", "/nowhere")
    result = run_cli("submit", tiny_config, "--cluster", cluster, "--dry-run")
    assert result.code == 0, result.err
    assert "#SBATCH --partition=anything" in result.out
    assert "not asked" in result.out


def test_a_submission_leaves_job_config_code_and_script(
    slurm: Path, ask: Ask, commands: Commands, run_cli: RunCli, tiny_config: Path
) -> None:
    commands({"sbatch": ("Submitted batch job 41\n", "", 0), "squeue": ("PENDING|Resources\n", "", 0)})
    began = time.time()
    request = ask("partition: batch")
    result = run_cli("submit", tiny_config, "--cluster", request.cluster, "--nodes", "2", "train.max_steps=7")
    assert result.code == 0, result.err
    run_dir = plan_job(request).run_dir
    job_dir = JobDir(run_dir)
    job = job_dir.read()
    assert (job.job_id, job.nodes) == ("41", 2)
    assert job.submitted_at is not None
    assert job.submitted_at >= began - 1
    assert job.command == ("train", str(job_dir.config), "train.max_steps=7")
    assert job_dir.config.read_bytes() == tiny_config.read_bytes()
    assert {"framework", "launch", "benchmarks", "configs"} <= set(os.listdir(job_dir.code))
    assert not list(job_dir.code.rglob("__pycache__"))
    assert [event.event for event in job_dir.history.read()] == ["submitted"]
    for word in ("41", "zerostream status", "zerostream logs -f", "zerostream cancel"):
        assert word in result.out


@pytest.mark.parametrize(
    ("reason", "is_told"),
    [("Resources", False), ("BeginTime", False), ("PartitionTimeLimit", True), ("InvalidQOS", True)],
)
def test_a_job_that_will_never_start_is_told_at_once(
    slurm: Path, ask: Ask, commands: Commands, run_cli: RunCli, tiny_config: Path, reason: str, is_told: bool
) -> None:
    commands({"sbatch": ("Submitted batch job 41\n", "", 0), "squeue": (f"PENDING|{reason}\n", "", 0)})
    result = run_cli("submit", tiny_config, "--cluster", ask().cluster)
    assert result.code == 0, result.err
    assert (reason in result.out) is is_told


def test_sbatchs_own_refusal_is_shown(
    slurm: Path, ask: Ask, commands: Commands, run_cli: RunCli, tiny_config: Path
) -> None:
    complaint = (
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n"
    )
    commands({"sbatch": ("", complaint, 1)})
    cluster = ask("account: nobody").cluster
    before = sorted(cluster.parent.rglob("*"))
    result = run_cli("submit", tiny_config, "--cluster", cluster, "run_dir=new/runs/a")
    assert result.code == 2
    assert [path for path in sorted(cluster.parent.rglob("*")) if path != slurm] == before
    assert "SLURM refused the job" in result.last_line
    assert "Invalid account" in result.last_line


def contents(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below it."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize("sweep", [(), ("--sweep", "seed=1,2")])
def test_a_refused_submission_leaves_the_job_that_was_there(
    slurm: Path, ask: Ask, commands: Commands, run_cli: RunCli, tiny_config: Path, sweep: tuple[str, ...]
) -> None:
    commands({"sbatch": ("Submitted batch job 12\n", "", 0)})
    request = ask()
    run_dir = plan_job(request).run_dir
    config = request.cluster.with_name("mine.yaml")
    config.write_bytes(tiny_config.read_bytes())
    words = ("submit", config, "--cluster", request.cluster, *sweep)
    assert run_cli(*words).code == 0
    job_dir = JobDir(run_dir)
    for each in job_dir.tasks() or [job_dir]:
        each.cancel_request.write_text("")
    (job_dir.code / "of_the_first").write_text("")
    before = contents(run_dir)
    commands({"sbatch": ("", "sbatch: error: invalid partition specified\n", 1)})
    config.write_text(config.read_text() + "# edited\n")
    assert run_cli(*words, "logging.every_steps=7").code == 2
    assert contents(run_dir) == before
    commands({"sbatch": ("Submitted batch job 13\n", "", 0)})
    assert run_cli(*words, "logging.every_steps=7").code == 0
    assert {entry.name for entry in job_dir.path.iterdir()} == {
        "code", "config.yaml", "history.jsonl", "job.json", "logs", "script.sh",
    }  # fmt: skip
    assert not (job_dir.code / "of_the_first").exists()


def test_a_refused_task_keeps_its_link_to_the_arrays_code(
    slurm: Path, ask: Ask, commands: Commands, run_cli: RunCli, tiny_config: Path
) -> None:
    commands({"sbatch": ("Submitted batch job 12\n", "", 0)})
    request = ask()
    task = JobDir(plan_job(request).run_dir).task(1)
    assert run_cli("submit", tiny_config, "--cluster", request.cluster, "--sweep", "seed=1,2").code == 0
    before = contents(task.run)
    commands({"sbatch": ("", "sbatch: error: invalid partition specified\n", 1)})
    assert run_cli("resubmit", task.run).code == 2
    assert contents(task.run) == before
    commands({"sbatch": ("Submitted batch job 13\n", "", 0)})
    assert run_cli("resubmit", task.run).code == 0
    assert task.code.is_dir()
    assert not task.code.is_symlink()
    commands({"sbatch": ("Submitted batch job 14\n", "", 0)})
    assert run_cli("submit", tiny_config, "--cluster", request.cluster, "--sweep", "seed=1,2").code == 0
    assert task.code.is_symlink()
    assert task.config.is_symlink()


def test_a_live_task_of_an_array_keeps_the_array_from_being_submitted_again(
    slurm: Path, ask: Ask, commands: Commands, make_job: Callable[..., Job]
) -> None:
    plan = plan_job(ask())
    JobDir(plan.run_dir).write(make_job(job_id="12", script=SCRIPT, tasks=(("seed=1",), ("seed=2",))))
    commands({"squeue": (seen("12_0", "COMPLETED") + seen("12_1", "RUNNING"), "", 0)})
    with pytest.raises(UserError, match=r"already job 12 \(running"):
        plan_job(ask())


def test_a_task_that_has_ended_is_submitted_again_while_others_run(
    slurm: Path, ask: Ask, commands: Commands, make_job: Callable[..., Job]
) -> None:
    plan = plan_job(ask())
    JobDir(plan.run_dir).write(make_job(job_id="12_0", script=SCRIPT, array="/sweep"))
    commands({"squeue": (seen("12_0", "CANCELLED") + seen("12_1", "RUNNING"), "", 0)})
    assert plan_job(ask()).job.job_id is None


def test_whether_a_run_is_queued_has_to_be_known(
    slurm: Path, ask: Ask, commands: Commands, make_job: Callable[..., Job]
) -> None:
    plan = plan_job(ask())
    JobDir(plan.run_dir).write(make_job(job_id="12", script=SCRIPT))
    commands({"squeue": ("", NO_CONTROLLER, 1)})
    with pytest.raises(UserError, match="SLURM cannot say whether this run is queued already"):
        plan_job(ask())


def test_the_profile_says_what_is_not_said_on_the_command_line() -> None:
    assert Profile(gpus_per_node=8).ranks_of_node(None) == 8
