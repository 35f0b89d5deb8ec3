"""A base to fine-tune, small enough for tests: random weights and a tokenizer of its own, in Hugging Face's format."""

from __future__ import annotations

from pathlib import Path

CONTEXT = 128


def make_base(folder: Path, architecture: str = "gpt2", seed: int = 1) -> Path:
    """Writes the folder that ``base`` of ``plugins.lora`` names."""
    import torch
    from transformers import AutoModelForCausalLM

    from framework.config import build_config
    from framework.data.embedded.stories import generate_stories
    from framework.data.tokenizer import build_tokenizer
    from framework.model.build import transformers_config

    model = {"architecture": architecture, "layers": 2, "width": 32, "heads": 2, "context_length": CONTEXT}
    config = build_config(
        {"model": {**model, "overrides": {"initializer_range": 0.15}}, "tokenizer": {"vocab_size": 512}},
        origin="a test",
    )
    tokenizer = build_tokenizer(config, documents=generate_stories(200, seed=3))
    torch.manual_seed(seed)
    hf_config = transformers_config(config.model, tokenizer.vocab_size, tokenizer.end_of_text_id)
    AutoModelForCausalLM.from_config(hf_config).save_pretrained(folder)
    tokenizer.save_for_transformers(folder)
    return folder


def finetuning_config(folder: Path, base: Path) -> Path:
    """A config with two folds of few embedded blurbs and few steps; ``folder`` holds all that it writes."""
    path = folder / "finetune.yaml"
    path.write_text(f"""\
run_dir: {folder / "run"}
model: {{layers: 2, width: 32, heads: 2, context_length: {CONTEXT}, dropout: 0.1}}
optimizer: {{lr: 2.0e-2, weight_decay: 0.0}}
schedule: {{warmup_steps: 2}}
engine: {{micro_batch_size: 2, global_batch_size: 8}}
train: {{max_steps: 6, eval_every_steps: 3}}
checkpoint: {{every_steps: 3}}
data: {{lanes: 8}}
plugins:
  lora:
    base: {base}
    on_long_text: truncate
    adapter: {{rank: 4}}
    data: {{source: embedded, documents: 60, folds: 2}}
""")
    return path
