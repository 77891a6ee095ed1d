"""What tasks and models ask of a tokenizer, and what byte-level BPEs have in common."""

import abc
import functools
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from codet5p_jax.tokenizer_files import TokenizerFiles, read_files

TASK_TOKENS = ("[ENC]", "[TDEC]", "[CDEC]")
NUM_SENTINELS = 100

AnyTokenizer = TypeVar("AnyTokenizer", bound="Tokenizer")  # beartype cannot check Self here


class Tokenizer(abc.ABC):
    """What tasks and models ask of a tokenizer. Immutable; equal ones have equal fingerprints.

    Attributes:
        base_size: Ids before those of sentinels and task tokens.
        pad_id: Id of padding, which no text holds.
        start_id: Id that a decoder reads first, before any target.
        bos_id: Id that begins a sequence.
        eos_id: Id that ends one.
        target_prefix: Ids that targets begin with: `<s>`, or nothing where the decoder's start is
            what begins a sequence.
        prompt_bounds: Ids around a prompt that the encoder reads.
        unk_id: Id of unknown text, of which a byte-level BPE has none; None where there is no such.
        clm_id: Id of `[CLM]`.
        model_max_length: Ids of the longest sequence; transformers warns of longer ones.
    """

    base_size: int
    pad_id: int
    start_id: int
    bos_id: int
    eos_id: int
    target_prefix: tuple[int, ...]
    prompt_bounds: tuple[tuple[int, ...], tuple[int, ...]]
    unk_id: int | None
    clm_id: int
    model_max_length: int
    _vocab: dict[str, int]
    _merges: list[tuple[str, str]]
    _tokenizer: tokenizers.Tokenizer

    @classmethod
    def from_directory(cls: type[AnyTokenizer], directory: str | pathlib.Path) -> AnyTokenizer:
        """Reads tokenizer.json, or vocab.json, merges.txt and CodeGen's added_tokens.json.

        Raises:
            FileNotFoundError: If the directory holds neither.
            ValueError: If a file is no byte-level BPE of this layout.
        """
        return cls._of_files(read_files(directory))

    @classmethod
    @abc.abstractmethod
    def _of_files(cls: type[AnyTokenizer], files: TokenizerFiles) -> AnyTokenizer:
        """Returns the tokenizer of what was read."""

    @property
    @abc.abstractmethod
    def vocab_size(self) -> int:
        """Number of ids."""

    @property
    @abc.abstractmethod
    def special_tokens(self) -> tuple[str, ...]:
        """Every special token."""

    @abc.abstractmethod
    def sentinel_id(self, k: int) -> int:
        """Returns the id of `<extra_id_k>`."""

    @property
    @abc.abstractmethod
    def match_id(self) -> int:
        """Id of `[ENC]`: first decoder token of matching."""

    @property
    def tdec_id(self) -> int:
        """Id of `[TDEC]`: first decoder token of writing text."""
        return self.match_id + 1

    @property
    def cdec_id(self) -> int:
        """Id of `[CDEC]`: first decoder token of writing code."""
        return self.match_id + 2

    @abc.abstractmethod
    def with_task_tokens(self) -> "Tokenizer":
        """Returns this tokenizer with `[ENC]`, `[TDEC]` and `[CDEC]` among its ids."""

    @abc.abstractmethod
    def _special_tokens_map(self) -> dict[str, Any]:
        """Contents of special_tokens_map.json."""

    def save(self, directory: str | pathlib.Path) -> None:
        """Writes the files with which `load_tokenizer` and transformers load this tokenizer."""
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        merges = "".join(f"{left} {right}\n" for left, right in self._merges)
        # Its own `save` raises a bare Exception where the disk is full.
        contents = self._tokenizer.to_str(pretty=True)
        (directory / "tokenizer.json").write_text(contents, encoding="utf-8")
        (directory / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
        _write_json(directory / "vocab.json", dict(sorted(self._vocab.items(), key=_by_id)))
        special = self._special_tokens_map()
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.model_max_length,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
        }
        _write_json(directory / "tokenizer_config.json", {**config, **special})
        _write_json(directory / "special_tokens_map.json", special)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`, without `<s>` and `</s>`; `decode` inverts it.

        Raises:
            ValueError: It holds half a character, of which no UTF-8 can be made.
        """
        try:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        except TypeError:
            text.encode("utf-8")  # a UnicodeEncodeError is a ValueError, and says where
            raise

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text, like `encode`, on all cores."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_with_word_starts(self, texts: Sequence[str]) -> list[tuple[list[int], list[bool]]]:
        """Returns, for each text, its ids and whether each id begins a word.

        A word is what the pre-tokenizer splits off: an identifier piece with the space before it,
        a number, a run of punctuation, a run of whitespace. Whole words are masked together.
        """
        # Not encode_batch_fast: it loses the word ids.
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [(encoding.ids, _word_starts(encoding.word_ids)) for encoding in encodings]

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Returns the text of `ids`; ids beyond the vocabulary are left out."""
        known = [int(i) for i in ids if 0 <= i < self.vocab_size]
        return self._tokenizer.decode(known, skip_special_tokens=skip_special_tokens)

    def pieces(self, ids: Iterable[int]) -> list[tuple[str, bool]]:
        """Returns texts and special tokens in turn, and whether each is a special token.

        For people: `decode` of what is no special token is the text between them.

        pieces([1, *encode("x = "), sentinel_id(0), 2]) ->
            [("<s>", True), ("x = ", False), ("<extra_id_0>", True), ("</s>", True)]
        """
        runs = itertools.groupby(map(int, ids), key=self._special_ids.get)
        return [
            piece
            for name, run in runs
            for piece in ([(name, True) for _ in run] if name else [(self.decode(run), False)])
        ]

    @functools.cached_property
    def _special_ids(self) -> dict[int, str]:
        known = ((self._tokenizer.token_to_id(token), token) for token in self.special_tokens)
        ids = {index: token for index, token in known if index is not None}
        return {**ids, self.clm_id: "[CLM]"}  # which CodeT5's vocabulary calls <unk>

    @property
    def entries(self) -> Mapping[str, int]:
        """Every entry, special tokens too -> its id."""
        return self._tokenizer.get_vocab()

    @functools.cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of entries, merges and special tokens."""
        return digest(self._canonical())

    def _canonical(self) -> list[Any]:
        return [sorted(self._vocab.items(), key=_by_id), self._merges, self.special_tokens]


def byte_level(model: models.BPE) -> tokenizers.Tokenizer:
    """Returns GPT-2's way to cut text before `model`, without prefix space: lossless."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def special_token(token: str) -> tokenizers.AddedToken:
    """Returns a special token. A newline before it is no part of it, unlike in released files."""
    return tokenizers.AddedToken(token, special=True, normalized=False)


def digest(canonical: list[Any]) -> str:
    """Returns the first 16 hex digits of the SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(canonical).encode()).hexdigest()[:16]


def check_sentinel(k: int) -> None:
    """Raises ValueError where there is no sentinel `k`."""
    if not 0 <= k < NUM_SENTINELS:
        raise ValueError(f"No sentinel {k}: there are {NUM_SENTINELS}, numbered from 0.")


def check_ids(by_id: Mapping[int, str], count: int) -> None:
    """Raises ValueError where ids are not 0..count - 1."""
    if sorted(by_id) != list(range(count)):
        raise ValueError(f"The ids of the {count:,} entries must be 0..{count - 1:,} without gaps.")


def _word_starts(word_ids: Sequence[int | None]) -> list[bool]:
    return [i == 0 or word_ids[i] != word_ids[i - 1] for i in range(len(word_ids))]


def _by_id(item: tuple[str, int]) -> int:
    return item[1]


def _write_json(path: pathlib.Path, contents: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(contents, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
