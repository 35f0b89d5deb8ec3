"""The user's commands, one after another, in processes of their own, on one small run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from framework.data.corpus import local_corpus
from framework.data.embedded import generate_stories
from framework.data.tokenizer import load_tokenizer
from framework.metrics.records import read_json_lines
from tests.conftest import ROOT
from tests.distributed.conftest import TORCHRUN, RunZerostream
from tests.lm_eval_tasks import write_tasks
from tests.starts import Zygote

pytestmark = pytest.mark.distributed

STOP_AT, MAX_STEPS = 6, 12
COMPARE_LOGITS = """
import sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
from framework.train.trained import load_trained

trained = load_trained(Path(sys.argv[1]))
model = AutoModelForCausalLM.from_pretrained(sys.argv[2]).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
text = "Once upon a time, there was a dog."
ids = tokenizer(text)["input_ids"]
assert ids == trained.tokenizer.encode(text), ids
assert tokenizer.eos_token_id == trained.tokenizer.end_of_text_id == model.config.eos_token_id
assert model.config.vocab_size == trained.tokenizer.vocab_size == len(tokenizer)
batch = torch.tensor([ids])
with torch.no_grad():
    torch.testing.assert_close(model(batch).logits, trained.model.logits(batch), rtol=1e-5, atol=1e-5)
    generated = model.generate(batch, max_new_tokens=5, do_sample=False, pad_token_id=tokenizer.eos_token_id)
print("same", tokenizer.decode(generated[0]))
"""


@pytest.fixture(scope="module")
def finished_run(
    tiny_config: Path, tmp_path_factory: pytest.TempPathFactory, zerostream: RunZerostream
) -> dict[str, Any]:
    """A run on 2 ranks with dropout: stopped with 75, and gone on with to its end, from nothing as a user does."""
    run_dir = tmp_path_factory.mktemp("runs") / "small"
    common = ["train", tiny_config, "--nproc", "2", f"run_dir={run_dir}", f"train.max_steps={MAX_STEPS}"]
    common += ["train.eval_every_steps=6", "logging.tensorboard=true", "logging.every_steps=1", "engine.zero_stage=2"]
    common += ["model.dropout=0.1"]
    stopped = zerostream(*common, f"train.stop_at_step={STOP_AT}", "--json", expect=75)
    finished = zerostream(*common, "--json", python=sys.executable)
    return {"path": run_dir, "stopped": stopped, "finished": finished}


def test_a_stop_says_what_to_do(finished_run: dict[str, Any]) -> None:
    stopped = finished_run["stopped"]
    outcome = json.loads(stopped.stdout)
    assert (outcome["status"], outcome["exit_code"], outcome["saved_step"]) == ("preempted", 75, STOP_AT)
    assert f"stopped at step {STOP_AT} of {MAX_STEPS}" in stopped.stderr.splitlines()[-1]


def test_the_result_is_one_json_object_on_standard_output(finished_run: dict[str, Any]) -> None:
    result = json.loads(finished_run["finished"].stdout)
    assert result == json.loads((finished_run["path"] / "result.json").read_text())
    assert (result["status"], result["step"], result["resumed_at_step"]) == ("finished", MAX_STEPS, STOP_AT)
    last = read_json_lines(finished_run["path"] / "eval.jsonl")[-1]
    assert result["validation"] == {key: value for key, value in last.items() if key != "step"}


def test_the_run_directory_holds_what_the_contract_names(finished_run: dict[str, Any]) -> None:
    path: Path = finished_run["path"]
    there = {entry.name for entry in path.iterdir()}
    assert there >= {
        "config.yaml", "environment.json", "metrics.jsonl", "eval.jsonl", "tensorboard", "checkpoints", "result.json", "samples",
    }  # fmt: skip
    lines = read_json_lines(path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, MAX_STEPS + 1))
    assert set(lines[0]) == {
        "step", "tokens", "loss", "lr", "grad_norm", "step_seconds", "tokens_per_second", "data_wait_seconds",
        "peak_memory_bytes", "batch_digest",
    }  # fmt: skip
    assert set(read_json_lines(path / "eval.jsonl")[0]) == {"step", "loss", "perplexity", "bits_per_byte"}
    assert all(line["tokens_per_second"] > 0 and line["peak_memory_bytes"] > 0 for line in lines)
    assert sorted(entry.name for entry in (path / "samples").iterdir()) == ["step-00000006.txt", "step-00000012.txt"]


def test_torchrun_without_a_stop_takes_the_same_steps(
    finished_run: dict[str, Any], tiny_config: Path, tmp_path: Path, zygote: Zygote
) -> None:
    command = [
        str(zygote.python),
        *TORCHRUN,
        str(tiny_config),
        f"run_dir={tmp_path / 'whole'}",
        f"train.max_steps={MAX_STEPS}",
    ]
    command += ["train.eval_every_steps=6", "engine.zero_stage=2", "model.dropout=0.1"]
    whole = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert whole.returncode == 0, whole.stderr[-3000:]
    resumed = read_json_lines(finished_run["path"] / "metrics.jsonl")
    for key in ("batch_digest", "loss", "grad_norm", "tokens", "lr"):
        assert [line[key] for line in resumed] == [
            line[key] for line in read_json_lines(tmp_path / "whole" / "metrics.jsonl")
        ], key


def test_no_warning_of_a_dependency_reaches_the_user(finished_run: dict[str, Any]) -> None:
    assert "Warning" not in finished_run["finished"].stderr


def test_tensorboard_shows_one_curve_over_http(finished_run: dict[str, Any]) -> None:
    command = [sys.executable, "-u", "-m", "launch.cli", "board", str(finished_run["path"]), "--port", "0"]
    server = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        assert server.stdout is not None
        address = re.search(r"http://\S+?/", server.stdout.readline())
        assert address is not None
        assert server.stdout.readline().startswith("from your own machine: ssh -N -L")
        tags = ask(address[0] + "data/plugin/scalars/tags", ready=lambda answer: "train/loss" in str(answer))
        (run,) = tags
        assert set(tags[run]) >= {
            "train/loss", "train/learning_rate", "train/grad_norm", "speed/tokens_per_second", "speed/model_flops_utilisation",
            "speed/data_wait_seconds", "memory/peak_bytes", "validation/loss", "validation/bits_per_byte",
        }  # fmt: skip
        url = f"{address[0]}data/plugin/scalars/scalars?run={urllib.request.quote(run)}&tag=train%2Floss"
        points = ask(url, ready=lambda answer: len(answer) >= MAX_STEPS)
        losses = [line["loss"] for line in read_json_lines(finished_run["path"] / "metrics.jsonl")]
        assert [step for _, step, _ in points] == list(range(1, MAX_STEPS + 1))
        assert [value for _, _, value in points] == pytest.approx(losses, rel=1e-6)
        texts = ask(address[0] + "data/plugin/text/tags", ready=lambda answer: "stories/0" in str(answer))
        assert "stories/0/text_summary" in texts[run]
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def ask(url: str, ready: Any, deadline_seconds: float = 60) -> Any:
    """The JSON answer, asked for again until TensorBoard has read the files."""
    answer, end = None, time.monotonic() + deadline_seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                answer = json.loads(response.read())
            if ready(answer):
                return answer
        except OSError:
            pass
        time.sleep(0.3)
    raise AssertionError(f"{url} answered {answer} after {deadline_seconds} s")


def test_generate_tells_the_same_story_for_the_same_seed(
    finished_run: dict[str, Any], zerostream: RunZerostream
) -> None:
    common = [
        "generate",
        finished_run["path"],
        "--prompt",
        "Once",
        "--prompt",
        "Lily wanted",
        "--max-tokens",
        "8",
        "--json",
    ]
    first, second = (json.loads(zerostream(*common, "--seed", "3").stdout) for _ in range(2))
    assert first == second
    assert [story["prompt"] for story in first["stories"]] == ["Once", "Lily wanted"]
    assert all(story["text"] for story in first["stories"])
    plain = zerostream(
        "generate", finished_run["path"], "--prompt", "Once", "--max-tokens", "8", "--temperature", "0"
    ).stdout
    assert plain.startswith("Once")


def test_evaluate_agrees_with_the_run(finished_run: dict[str, Any], zerostream: RunZerostream) -> None:
    path = finished_run["path"]
    report = json.loads(zerostream("evaluate", path, "--json").stdout)
    assert report["step"] == MAX_STEPS
    # The run looked at 16 sequences, this at all of them; the model is the same.
    assert report["loss"] == pytest.approx(read_json_lines(path / "eval.jsonl")[-1]["loss"], rel=0.05)
    assert report["bits_per_byte"] > 0


def test_evaluate_reports_texts_stories_and_tasks_in_sections(
    finished_run: dict[str, Any], tiny_shards: Path, tmp_path: Path, zerostream: RunZerostream
) -> None:
    """The validation documents as a text: their figures are those of the validation shards, to the last digit."""
    tokenizer = load_tokenizer(tiny_shards / "tokenizer")
    documents = [tokenizer.decode(tokens.tolist()) for tokens in local_corpus(tiny_shards).documents("validation")]
    (tmp_path / "text.txt").write_text("\n***\n".join(documents))
    command = ["evaluate", finished_run["path"], "--shards", tiny_shards, "--text", tmp_path / "text.txt"]
    command += ["--separator", "***", "--stories", "3", "--max-tokens", "8", "--json"]
    if importlib.util.find_spec("lm_eval") is not None:
        write_tasks(tmp_path)
        command += ["--tasks", "choose_end", "--task-folder", tmp_path]
    said = zerostream(*command)
    report = json.loads(said.stdout)
    [text] = report["texts"]
    assert text["documents"] == len(documents)
    for key in ("loss", "perplexity", "bits_per_byte"):
        assert text[key] == report[key]
    assert report["stories"]["stories"] == report["stories"]["reference"]["stories"] == 3
    assert 0 < report["stories"]["mean_words"] <= 8 * 4
    assert "tasks" not in report or report["tasks"]["choose_end"]["samples"] == 5


def test_an_export_loads_in_transformers_with_the_same_logits(
    finished_run: dict[str, Any], tmp_path: Path, zerostream: RunZerostream
) -> None:
    folder = tmp_path / "exported"
    zerostream("export", finished_run["path"], folder)
    script = [sys.executable, "-c", COMPARE_LOGITS, str(finished_run["path"]), str(folder)]
    compared = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert compared.returncode == 0, compared.stderr[-3000:]
    assert compared.stdout.startswith("same Once upon a time")
    refused = zerostream("export", finished_run["path"], folder, expect=2)
    assert "is not empty" in refused.stderr


def test_forty_stories_are_learned_by_heart(tmp_path: Path, zerostream: RunZerostream) -> None:
    """The first 45 words of forty stories; ``configs/overfit.yaml`` takes a hundred whole, in minutes.

    Which of them comes next cannot be known: with some 80 tokens a story, ln(40) / 80 = 0.05 nats a token remain, as few as the
    0.04 of a hundred stories of 90 words, which took three times as long.
    """
    stories = [" ".join(story.split()[:45]) for story in generate_stories(40, seed=1)]
    (tmp_path / "train.txt").write_text("\n<|endoftext|>\n".join(stories))
    (tmp_path / "valid.txt").write_text(stories[0])
    config = tmp_path / "overfit.yaml"
    config.write_text(f"""\
run_dir: {tmp_path / "run"}
model: {{layers: 2, width: 128, heads: 4, context_length: 128, overrides: {{initializer_range: 0.07}}}}
tokenizer: {{kind: train_bpe, vocab_size: 512}}
data: {{source: text, path: {tmp_path / "train.txt"}, validation_path: {tmp_path / "valid.txt"}, shards_dir: {tmp_path / "s"}}}
optimizer: {{lr: 3.0e-3, beta2: 0.99, weight_decay: 0.0}}
schedule: {{warmup_steps: 20, final_lr_fraction: 0.02}}
engine: {{micro_batch_size: 2, global_batch_size: 4}}
train: {{max_steps: 500, eval_every_steps: 2000, sample_prompts: []}}
checkpoint: {{every_steps: 2000}}
logging: {{tensorboard: false}}
""")
    zerostream("prepare", config)
    zerostream("train", config, "--nproc", "2")
    lines = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert sum(line["loss"] for line in lines[-20:]) / 20 < 0.15


@pytest.mark.parametrize("engine", ["engine.kind=reference", "engine.zero_stage=2"])
def test_a_compiled_model_gives_the_same_losses_and_resumes(
    engine: str, tiny_config: Path, tmp_path: Path, zerostream: RunZerostream
) -> None:
    def losses(name: str, *more: str, expect: int = 0) -> list[float]:
        run_dir = tmp_path / name
        zerostream("train", tiny_config, engine, f"run_dir={run_dir}", "train.max_steps=4", *more, expect=expect)
        return [line["loss"] for line in read_json_lines(run_dir / "metrics.jsonl")]

    compiled = losses("compiled", "engine.compile=true")
    assert compiled == pytest.approx(losses("eager"), rel=1e-5)
    assert losses("cut", "engine.compile=true", "train.stop_at_step=2", expect=75) == compiled[:2]
    assert losses("cut", "engine.compile=true") == compiled
