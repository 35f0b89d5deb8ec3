"""Small tasks for lm-eval, made here: their data are files beside them, and nothing needs a network."""

from __future__ import annotations

import json
from pathlib import Path

ROWS = (
    {"text": "Lily went to the park with her", "good": "mom", "bad": "moon"},
    {"text": "The dog ran after the", "good": "ball", "bad": "rain"},
    {"text": "Tom was very", "good": "happy", "bad": "spoon"},
    {"text": "At last they all went", "good": "home", "bad": "seven"},
    {"text": "The little bird sat in a", "good": "tree", "bad": "sang"},
)

TASK = """\
task: {name}
{more}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}, cache_dir: {folder}/cache}}
test_split: test
doc_to_text: "{{{{text}}}}"
metadata: {{version: 1.0}}
"""

CHOOSE_END = """\
output_type: multiple_choice
doc_to_choice: "{{[good, bad]}}"
doc_to_target: 0
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""

LAST_WORD = """\
tag: [tiny_tag]
output_type: loglikelihood
doc_to_target: " {{good}}"
metric_list: [{metric: perplexity, aggregation: perplexity, higher_is_better: false}]
"""


def write_tasks(folder: Path) -> tuple[dict[str, str], ...]:
    """Writes the tasks ``choose_end`` and ``last_word`` (tag ``tiny_tag``) into ``folder``; returns the rows of both."""
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    for name, more in (("choose_end", CHOOSE_END), ("last_word", LAST_WORD)):
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, more=more.strip(), folder=folder))
    return ROWS
