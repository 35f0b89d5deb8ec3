"""``python -m benchmarks QUESTION``: one file per question, each answered by the code that really trains."""

from __future__ import annotations

import difflib
import importlib
import sys

from framework.errors import EXIT_REFUSED, ZerostreamError

QUESTIONS = {
    "throughput": "tokens/s of training, where a step's time goes, model FLOPs utilisation; over a grid",
    "memory": "peak memory of a rank by part, measured and as the planner predicts it",
    "planned_speed": "tokens/s of a rank more, and of other models, as planned from a few measured runs",
    "loader": "tokens/s from shards: alone, with a worker, over HTTP; first batch; resume",
    "prepare": "MB/s and documents/s from text to shards",
    "checkpoint": "how long a save holds training, how long a start takes that goes on from it",
    "scaling": "1, 2, 4 ranks, strong and weak; bytes a step moves against ZeRO's theory",
    "peers": "the same work in other tools, interleaved: training loops, loaders, tokenizers",
    "lora": "fine-tuning beside Hugging Face's Trainer with peft: memory and tokens/s",
    "resume": "how soon a resumed rank knows its shards, on a manifest of 100 GB",
    "goodput": "useful share of an hour with failures, simulated or real",
    "plain_loop": "what a plain torch loop learns in a given time",
    "published": "the planner beside published figures of known systems",
    "compare": "two revisions of zerostream, or two files of results: faster, slower or noise",
    "report": "tables, plots and TensorBoard curves from the files of results",
}


def module_of(question: str) -> str:
    """The name of the module that answers it."""
    return f"benchmarks.{question}"


def main() -> None:
    """Hands over to the question's own module, which reads its options."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: python -m benchmarks QUESTION [options]; each has --help\n")
        for name, asks in QUESTIONS.items():
            print(f"  {name:<13} {asks}")
        return
    question = sys.argv[1]
    if question not in QUESTIONS:
        near = difflib.get_close_matches(question, QUESTIONS, n=1, cutoff=0.0)[0]
        print(f"benchmarks: there is no question {question!r}. To fix it: write {near}.", file=sys.stderr)
        sys.exit(EXIT_REFUSED)
    module = importlib.import_module(module_of(question))
    sys.argv = [f"python -m benchmarks {question}", *sys.argv[2:]]
    try:
        module.main()
    except ZerostreamError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
