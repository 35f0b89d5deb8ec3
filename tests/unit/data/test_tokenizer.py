from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GPT2TokenizerFast  # type: ignore[attr-defined]

from framework.config.load import build_config
from framework.config.schema import Config
from framework.data.tokenizer import END_OF_TEXT, Tokenizer, build_tokenizer, load_tokenizer
from framework.errors import TokenizerError

TEXTS = [
    "Once upon a time there was a little girl named Lily. She didn't like the rain.",
    "  Two  spaces,\ttabs and\n\nempty lines; numbers 1234 and it's 99%.",
    "Ein Bär aß Brötchen. 兔子跑得很快。 🐻‍❄️ \u2028 \x00 end",
    f"a literal {END_OF_TEXT} inside, and <|endoftext|",
]


def make_config(**tokenizer: Any) -> Config:
    return build_config({"tokenizer": tokenizer}, origin="test")


def train(vocab_size: int = 400, texts: list[str] | None = None) -> Tokenizer:
    return build_tokenizer(make_config(vocab_size=vocab_size), (texts or TEXTS) * 3)


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vocab.json and merges.txt as OpenAI's: merges in order, end-of-text last."""
    folder = tmp_path_factory.mktemp("gpt2")
    trained = tmp_path_factory.mktemp("trained")
    train(vocab_size=400).save(trained)
    model = json.loads((trained / "tokenizer.json").read_text())["model"]
    words = [word for word in sorted(model["vocab"], key=model["vocab"].__getitem__) if word != END_OF_TEXT]
    vocab = {word: index for index, word in enumerate([*words, END_OF_TEXT])}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    return folder


def assert_equals_transformers(folder: Path, texts: list[str]) -> None:
    ours = build_tokenizer(make_config(kind="pretrained", path=str(folder)), ())
    theirs = GPT2TokenizerFast(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), add_prefix_space=False
    )
    assert ours.end_of_text_id == theirs.convert_tokens_to_ids(END_OF_TEXT)
    assert ours.vocab_size == len(theirs)
    assert ours.encode_documents(texts) == theirs(texts, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_round_trips(text: str) -> None:
    tokenizer = train()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.end_of_text_id not in ids
    assert tokenizer.encode_documents([text]) == [ids]


def test_end_of_text_is_left_out_of_decoded_text_unless_asked_for() -> None:
    tokenizer = train()
    ids = [*tokenizer.encode("end"), tokenizer.end_of_text_id]
    assert tokenizer.decode(ids) == "end"
    assert tokenizer.decode(ids, with_special_tokens=True) == f"end{END_OF_TEXT}"


def test_training_gives_the_same_tokenizer_in_every_process_and_thread_count() -> None:
    program = (
        "import sys, json\nfrom framework.config.schema import Config\n"
        "from framework.data.tokenizer import build_tokenizer\n"
        "config = Config.model_validate({'tokenizer': {'vocab_size': 400}})\n"
        "print(build_tokenizer(config, json.loads(sys.argv[1])).fingerprint)"
    )
    environment = {**os.environ, "RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", program, json.dumps(TEXTS * 3)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == train().fingerprint


def test_vocabulary_has_the_size_asked_for_or_is_refused() -> None:
    assert train(vocab_size=300).vocab_size == 300
    with pytest.raises(TokenizerError, match=r"vocab_size is 5000, but the text yields \d+ tokens"):
        train(vocab_size=5000)


def test_saved_tokenizer_loads_with_the_same_fingerprint_and_ids(tmp_path: Path) -> None:
    tokenizer = train()
    tokenizer.save(tmp_path / "new" / "folder")
    loaded = load_tokenizer(tmp_path / "new" / "folder")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.encode_documents(TEXTS) == tokenizer.encode_documents(TEXTS)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("model_type", [None, "gpt2", "llama"])
def test_transformers_loads_what_is_exported(tmp_path: Path, model_type: str | None) -> None:
    tokenizer = train()
    tokenizer.save_for_transformers(tmp_path)
    if model_type:  # as in an exported model's folder
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    texts = TEXTS[:3]
    assert theirs(texts, add_special_tokens=False)["input_ids"] == tokenizer.encode_documents(texts)
    assert theirs(texts)["input_ids"] == tokenizer.encode_documents(texts)
    assert [theirs.decode(tokenizer.encode(text)) for text in texts] == texts
    assert theirs.eos_token_id == theirs.bos_token_id == theirs.unk_token_id == tokenizer.end_of_text_id


def test_gpt2_files_give_the_ids_of_transformers(gpt2_folder: Path) -> None:
    assert_equals_transformers(gpt2_folder, TEXTS[:3])


def test_real_gpt2_files_give_the_ids_of_transformers_on_real_stories() -> None:
    folder = os.environ.get("ZEROSTREAM_REAL_DATA")
    if not folder:
        pytest.skip("ZEROSTREAM_REAL_DATA names no folder with gpt2_tokenizer/ and tinystories/valid.txt")
    text = (Path(folder) / "tinystories" / "valid.txt").read_text(encoding="utf-8")
    assert_equals_transformers(Path(folder) / "gpt2_tokenizer", [each.strip() for each in text.split(END_OF_TEXT)])


def test_end_of_text_of_a_pretrained_tokenizer_is_its_named_eos_token(tmp_path: Path) -> None:
    save_with_other_end(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "</s>"}}))
    tokenizer = build_tokenizer(make_config(kind="pretrained", path=str(tmp_path)), ())
    assert tokenizer.end_of_text == "</s>"
    assert tokenizer.encode("no </s> here").count(tokenizer.end_of_text_id) == 0
    tokenizer.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").end_of_text == "</s>"


def test_pretrained_truncation_and_dropped_merges_are_turned_off(tmp_path: Path) -> None:
    train().save(tmp_path)
    values = json.loads((tmp_path / "tokenizer.json").read_text())
    values["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    values["model"]["dropout"] = 0.5
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    assert load_tokenizer(tmp_path).encode_documents(TEXTS) == train().encode_documents(TEXTS)


def save_with_other_end(folder: Path) -> None:
    train().save(folder)
    text = (folder / "tokenizer.json").read_text().replace(END_OF_TEXT, "</s>")
    (folder / "tokenizer.json").write_text(text)
    (folder / "tokenizer_config.json").unlink()


def test_a_tokenizer_without_end_of_text_is_refused(tmp_path: Path) -> None:
    save_with_other_end(tmp_path)
    with pytest.raises(TokenizerError, match=r"no <\|endoftext\|> and names no eos_token.*tokenizer_config.json"):
        load_tokenizer(tmp_path)


def test_another_vocab_size_than_the_pretrained_one_is_refused(gpt2_folder: Path) -> None:
    with pytest.raises(TokenizerError, match=r"vocab_size is 50257, but .* has 400 .*tokenizer.vocab_size=400"):
        build_tokenizer(make_config(kind="pretrained", path=str(gpt2_folder), vocab_size=50257), ())


def test_a_vocabulary_that_would_lose_bytes_is_refused(gpt2_folder: Path, tmp_path: Path) -> None:
    vocab = json.loads((gpt2_folder / "vocab.json").read_text())
    vocab.pop("Ā")
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(TokenizerError, match="lacks 1 of the 256 bytes"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["{", "{}", '{"version": "1.0", "model": null}'])
def test_damaged_tokenizer_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match="cannot be loaded"):
        load_tokenizer(tmp_path)


def test_missing_tokenizers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="holds neither"):
        build_tokenizer(make_config(kind="pretrained", path=str(tmp_path)), ())
    with pytest.raises(TokenizerError, match="neither a folder nor a hub name"):
        build_tokenizer(make_config(kind="pretrained", path=str(tmp_path / "absent")), ())
    (tmp_path / "file.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"is a file.*name its folder"):
        build_tokenizer(make_config(kind="pretrained", path=str(tmp_path / "file.json")), ())


def test_a_hub_name_without_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TokenizerError, match=r"zerostream-test/absent .*hub does not give it.*name its folder"):
        build_tokenizer(make_config(kind="pretrained", path="zerostream-test/absent"), ())
