"""Text to token ids and back: a byte-level BPE learnt here, or a pretrained tokenizer.

Every text round-trips: a byte-level vocabulary holds all 256 bytes. A document that happens to contain the characters
``<|endoftext|>`` is encoded as those characters; the end-of-text id only ever stands where a document ends.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from framework.config.schema import Config
from framework.data.fast_learning import Merges, byte_symbols, learn_merges
from framework.data.fast_library import UnfitError, is_wanted, print_sentence, unfit_if_it_fails
from framework.durable import storage_errors, write_durably
from framework.errors import TokenizerError

if TYPE_CHECKING:
    import tokenizers

END_OF_TEXT = "<|endoftext|>"
DEFAULT_VOCAB_SIZE = 4096
TRAINING_TEXT_BYTES = 64 * 1024 * 1024
"""``train_bpe`` learns from so much of the first training text; more hardly moves the merges, and takes minutes."""

MUCH_TEXT_CHARACTERS = 1024 * 1024
"""From so much on, proving that a faster library learns the same takes less time than it saves."""

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


class Tokenizer:
    """A ``tokenizers.Tokenizer`` whose special tokens never match inside text, with its end-of-text known."""

    def __init__(self, backend: tokenizers.Tokenizer, end_of_text: str = END_OF_TEXT) -> None:
        """Takes over ``backend``: truncation, padding, dropped merges and the matching of special tokens are turned off.

        Raises:
            TokenizerError: ``end_of_text`` is not in the vocabulary.
        """
        end_of_text_id = backend.token_to_id(end_of_text)
        if end_of_text_id is None:
            raise TokenizerError(
                f"the tokenizer has no token {end_of_text!r} to end a document with",
                fix="use a tokenizer whose vocabulary has it, or name its eos_token in tokenizer_config.json",
            )
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        if getattr(backend.model, "dropout", None):
            backend.model.dropout = None  # the same text is the same tokens every time
        self._backend = backend
        self.end_of_text = end_of_text
        self.end_of_text_id: int = end_of_text_id

    @cached_property
    def vocab_size(self) -> int:
        """Largest id + 1: the rows an embedding needs."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the tokenizer's JSON with sorted keys: equal wherever and however it was stored."""
        canonical = json.dumps(json.loads(self.to_json()), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def token_dtype(self) -> Literal["uint16", "uint32"]:
        """The smallest dtype that holds every id: that of the shards."""
        return "uint16" if self.vocab_size <= 2**16 else "uint32"

    def to_json(self, *, with_added_tokens: bool = True) -> str:
        """The content of ``tokenizer.json``; without added tokens, of one that takes their text for text."""
        return str((self._backend if with_added_tokens else self._without_added_tokens()).to_str())

    def _without_added_tokens(self) -> tokenizers.Tokenizer:
        from tokenizers import Tokenizer as Backend

        bare = Backend(self._backend.model)
        for part in ("normalizer", "pre_tokenizer"):
            if getattr(self._backend, part) is not None:
                setattr(bare, part, getattr(self._backend, part))
        return bare

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``; end-of-text is not added."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_documents(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, in parallel on the library's own threads; end-of-text is not added."""
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_with_ends(self, texts: Sequence[str]) -> tuple[npt.NDArray[Any], list[int]]:
        """The documents as a shard holds them: back to back, end-of-text after each.

        Returns:
            [tokens] of ``token_dtype``, and how many of them each document has, its end-of-text included.
        """
        encoded = self.encode_documents(texts)
        for ids in encoded:
            ids.append(self.end_of_text_id)
        lengths = [len(ids) for ids in encoded]
        tokens = np.fromiter(itertools.chain.from_iterable(encoded), dtype=self.token_dtype, count=sum(lengths))
        return tokens, lengths

    def decode(self, ids: Sequence[int], *, with_special_tokens: bool = False) -> str:
        """Text of ``ids``; end-of-text and other special tokens are left out unless asked for."""
        return str(self._backend.decode(list(ids), skip_special_tokens=not with_special_tokens))

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json`` and the few lines of ``tokenizer_config.json`` that name end-of-text.

        Raises:
            StorageError: the file system refuses; no file is left half-written.
        """
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / TOKENIZER_CONFIG_FILE, _as_json(self._transformers_config()))
        write_durably(folder / TOKENIZER_FILE, self._backend.to_str(pretty=True).encode())

    def save_for_transformers(self, folder: Path) -> None:
        """``save``, and ``special_tokens_map.json`` for older tools; ``AutoTokenizer.from_pretrained`` loads it.

        Raises:
            StorageError: as ``save``.
        """
        self.save(folder)
        write_durably(folder / SPECIAL_TOKENS_FILE, _as_json(self._special_tokens()))

    def _transformers_config(self) -> dict[str, Any]:
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **self._special_tokens(),
        }

    def _special_tokens(self) -> dict[str, str]:
        roles = ("bos_token", "eos_token", "unk_token") if self.end_of_text == END_OF_TEXT else ("eos_token",)
        return dict.fromkeys(roles, self.end_of_text)


def build_tokenizer(config: Config, documents: Iterable[str]) -> Tokenizer:
    """The tokenizer that ``config.tokenizer`` asks for.

    Args:
        config: of the run.
        documents: training text, read by ``train_bpe`` only, and of that the first 64 MiB.

    Raises:
        TokenizerError: a pretrained tokenizer is missing, damaged or without end-of-text; or it, or the one that the
            text yields, has another size than asked for.
        SourceError: whatever reading ``documents`` raises.
    """
    if config.tokenizer.kind == "train_bpe":
        tokenizer = _train_bpe(documents, config.tokenizer.vocab_size or DEFAULT_VOCAB_SIZE)
        _refuse_other_size(tokenizer, config, "the text yields")
        return tokenizer
    assert config.tokenizer.path  # the schema demands it
    tokenizer = load_pretrained(config.tokenizer.path)
    _refuse_other_size(tokenizer, config, f"{config.tokenizer.path} has")
    return tokenizer


def _refuse_other_size(tokenizer: Tokenizer, config: Config, origin: str) -> None:
    wanted = config.tokenizer.vocab_size
    if wanted is not None and wanted != tokenizer.vocab_size:
        raise TokenizerError(
            f"tokenizer.vocab_size is {wanted}, but {origin} {tokenizer.vocab_size} tokens",
            fix=f"set tokenizer.vocab_size={tokenizer.vocab_size}, or leave it out",
        )


def load_tokenizer(folder: Path) -> Tokenizer:
    """Loads ``tokenizer.json``, or GPT-2's ``vocab.json`` and ``merges.txt``, from a folder.

    End-of-text is ``<|endoftext|>`` if the vocabulary has it, else the eos_token that ``tokenizer_config.json`` or
    ``special_tokens_map.json`` names.

    Raises:
        TokenizerError: the files are missing or damaged, or there is no end-of-text.
    """
    backend = _load_backend(folder)
    if backend.token_to_id(END_OF_TEXT) is not None:
        return Tokenizer(backend)
    named = _named_end_of_text(folder)
    if named is None:
        raise TokenizerError(
            f"the tokenizer in {folder} has no {END_OF_TEXT} and names no eos_token",
            fix=f'add {{"eos_token": "..."}} to {folder / TOKENIZER_CONFIG_FILE}, or use another tokenizer',
        )
    return Tokenizer(backend, named)


def _train_bpe(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    training: Iterable[str] = _first_bytes(documents, TRAINING_TEXT_BYTES)
    if is_wanted():  # else the text need not be held; why it is not is said when tokenizing begins
        training = texts = list(training)
        if sum(map(len, texts)) > MUCH_TEXT_CHARACTERS:
            try:
                with unfit_if_it_fails():
                    return _learned_fast(texts, vocab_size)
            except UnfitError as reason:
                print_sentence(f"learning the tokenizer with Hugging Face's tokenizers: {reason}")
    return Tokenizer(_trained(training, vocab_size))


def _trained(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """What `tokenizers` learns."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers, trainers

    backend = _byte_level(Backend(models.BPE()))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(texts, trainer=trainer)
    return backend


def _learned_fast(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """The same, by another library.

    Raises:
        UnfitError: it cannot be used, or does not prove to be the same.
    """
    from tokenizers import AddedToken, models
    from tokenizers import Tokenizer as Backend

    def trainer(sample: Sequence[str]) -> Merges:
        return [tuple(pair) for pair in json.loads(_trained(sample, vocab_size).to_str())["model"]["merges"]]

    merges = learn_merges(texts, vocab_size, END_OF_TEXT, trainer)
    tokens = dict.fromkeys([END_OF_TEXT, *sorted(byte_symbols()), *(left + right for left, right in merges)])
    backend = _byte_level(Backend(models.BPE({token: index for index, token in enumerate(tokens)}, merges)))
    backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return Tokenizer(backend)


def _first_bytes(documents: Iterable[str], limit: int) -> Iterator[str]:
    total = 0
    for text in documents:
        yield text
        total += len(text.encode())
        if total >= limit:
            return


def _byte_level(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """GPT-2's pre-tokenizer, decoder and post-processor (Radford et al. 2019, section 2.2)."""
    from tokenizers import decoders, pre_tokenizers, processors

    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return backend


def load_pretrained(path: str) -> Tokenizer:
    """The tokenizer of a folder, or of a hub name.

    Raises:
        TokenizerError: there is none, or it has no end-of-text.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return load_tokenizer(folder)
    if folder.is_file():
        raise TokenizerError(f"tokenizer.path {path} is a file", fix=f"name its folder: tokenizer.path={folder.parent}")
    if not _HUB_NAME.fullmatch(path):
        raise TokenizerError(
            f"tokenizer.path {path} is neither a folder nor a hub name",
            fix="name an existing folder, or a name like gpt2",
        )
    return load_tokenizer(_fetch_from_hub(path))


def _fetch_from_hub(name: str) -> Path:
    import huggingface_hub

    files = [TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, SPECIAL_TOKENS_FILE, "vocab.json", "merges.txt"]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=files))
    except Exception as error:  # offline, unknown, gated, time-out: a dozen classes with one meaning here
        reason = " ".join(str(error).split())[:200]
        raise TokenizerError(
            f"tokenizer.path {name} is no folder here, and the Hugging Face hub does not give it: {reason}",
            fix="check the name and the network, or download it once and name its folder",
        ) from error


def _load_backend(folder: Path) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer as Backend

    whole = folder / TOKENIZER_FILE
    parts = folder / "vocab.json", folder / "merges.txt"
    try:
        if whole.is_file():
            return Backend.from_file(str(whole))
        if all(part.is_file() for part in parts):
            return _load_gpt2(*parts)
    except TokenizerError:
        raise
    except Exception as error:  # the library raises bare Exception for whatever is wrong in a file
        raise TokenizerError(
            f"the tokenizer in {folder} cannot be loaded: {error}", fix="download or prepare it again"
        ) from error
    raise TokenizerError(
        f"{folder} holds neither {TOKENIZER_FILE} nor vocab.json and merges.txt",
        fix="name a folder with tokenizer files, or a hub name",
    )


def _load_gpt2(vocab_file: Path, merges_file: Path) -> tokenizers.Tokenizer:
    from tokenizers import AddedToken, pre_tokenizers
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import BPE

    vocab, merges = BPE.read_file(str(vocab_file), str(merges_file))
    missing = [symbol for symbol in pre_tokenizers.ByteLevel.alphabet() if symbol not in vocab]
    if missing:  # the library would drop such bytes without a word
        raise TokenizerError(
            f"{vocab_file} lacks {len(missing)} of the 256 bytes, so that text would be lost",
            fix="use a byte-level vocabulary such as GPT-2's",
        )
    backend = _byte_level(Backend(BPE(vocab, merges)))
    if END_OF_TEXT in vocab:
        backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return backend


def _named_end_of_text(folder: Path) -> str | None:
    for name in (TOKENIZER_CONFIG_FILE, SPECIAL_TOKENS_FILE):
        try:
            token = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token")
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError) as error:
            raise TokenizerError(f"{folder / name} cannot be read: {error}", fix="download it again") from error
        if isinstance(token, dict):  # an AddedToken with its flags
            token = token.get("content")
        if isinstance(token, str):
            return token
    return None


def _as_json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
