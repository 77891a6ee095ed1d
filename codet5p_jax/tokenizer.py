"""The byte-level BPEs of CodeT5+: text <-> ids, their special tokens, training.

Ids of `CodeTokenizer`, with `base_size` entries (32,000 in the paper; CODET5+, section 4.2):

    0..4                    <pad> <s> </s> <unk> <mask>; `[CLM]` is the reused <unk>
    5..base_size - 1        bytes and merges
    base_size + 99 - k      sentinel <extra_id_k>, k < 100: they descend
    base_size + 100..102    [ENC] (also [Match]), [TDEC], [CDEC]: two-stage models only

A sequence is `<s> ... </s>`. A decoder starts with <pad>, then reads `<s> ... `.

Ids of `CodeGenTokenizer`, for models whose parts come from CodeGen (section 3.3), which has
`base_size` = 50,295 of them. Which ones the released models use as sentinels is not published;
these are rows of the embedding that CodeGen leaves unused:

    0..50255                bytes and merges of GPT-2; 0 is an exclamation mark, not padding
    50256                   <|endoftext|>, which is `<s>`, `</s>` and a decoder's start
    50257..50294            runs of 31..2 spaces and of 9..2 tabs
    base_size + k           sentinel <extra_id_k>, k < 100: they ascend
    base_size + 100..103    [CLM] [ENC] [TDEC] [CDEC]
    base_size + 104         <pad>

Ids of `LanguageModelTokenizer`, for models whose parts come from other language models, such as
SmolLM2: those of the model, `<|endoftext|>` among them, then the same 105.

Special tokens are ids that are inserted, never text that is parsed: `encode("<s>")` gives the ids
of three characters.
"""

import abc
import functools
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, final

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from codet5p_jax.tokenizer_files import TokenizerFiles, read_files

CONTROL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")
TASK_TOKENS = ("[ENC]", "[TDEC]", "[CDEC]")
NUM_SENTINELS = 100
END_OF_TEXT = "<|endoftext|>"
PAD = "<pad>"
CODEGEN_TOKENS = (
    *(f"<extra_id_{k}>" for k in range(NUM_SENTINELS)),
    *("[CLM]", *TASK_TOKENS, PAD),
)

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
        self._tokenizer.save(str(directory / "tokenizer.json"))
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
        return _digest(self._canonical())

    def _canonical(self) -> list[Any]:
        return [sorted(self._vocab.items(), key=_by_id), self._merges, self.special_tokens]


@final
class CodeTokenizer(Tokenizer):
    """CodeT5's tokenizer.

    Attributes:
        base_size: Entries of the BPE, control tokens included.
        has_task_tokens: Whether `[ENC]`, `[TDEC]` and `[CDEC]` are part of the vocabulary.
    """

    pad_id, bos_id, eos_id, unk_id, mask_id = range(len(CONTROL_TOKENS))
    clm_id = unk_id  # `[CLM]`, as in the released models
    start_id = pad_id  # T5's
    target_prefix = (bos_id,)
    prompt_bounds = ((bos_id,), (eos_id,))
    model_max_length = 512

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        has_task_tokens: bool = False,
    ):
        """Builds the tokenizer of `vocab` (entry -> id, 0..base_size - 1) and ranked `merges`.

        Raises:
            ValueError: If the ids have gaps, or 0..4 are not the control tokens.
        """
        _check_vocab(vocab)
        self.base_size = len(vocab)
        self.has_task_tokens = has_task_tokens
        self._vocab = dict(vocab)
        self._merges = list(merges)
        self._tokenizer = _pipeline(models.BPE(vocab=self._vocab, merges=self._merges))
        self._tokenizer.add_special_tokens([_added(token) for token in self.special_tokens])
        self._tokenizer.encode_special_tokens = True  # text is never parsed as a special token

    @classmethod
    def _of_files(cls, files: TokenizerFiles) -> "CodeTokenizer":
        added = files.added.keys() - set(CONTROL_TOKENS)
        vocab = {entry: index for entry, index in files.vocab.items() if entry not in added}
        return cls(vocab, files.merges, has_task_tokens=TASK_TOKENS[0] in added)

    def with_task_tokens(self) -> "CodeTokenizer":
        """Returns this tokenizer with `[ENC]`, `[TDEC]` and `[CDEC]`, for two-stage models."""
        return CodeTokenizer(self._vocab, self._merges, has_task_tokens=True)

    @property
    def vocab_size(self) -> int:
        """Number of ids: 32,100, or 32,103 with task tokens, in the released models."""
        return self.base_size + NUM_SENTINELS + len(TASK_TOKENS) * self.has_task_tokens

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Every special token, in the order of ids within each group."""
        sentinels = tuple(f"<extra_id_{k}>" for k in reversed(range(NUM_SENTINELS)))
        return CONTROL_TOKENS + sentinels + (TASK_TOKENS if self.has_task_tokens else ())

    def sentinel_id(self, k: int) -> int:
        """Returns the id of `<extra_id_k>`; ids descend with k."""
        _check_sentinel(k)
        return self.base_size + NUM_SENTINELS - 1 - k

    @property
    def match_id(self) -> int:
        """Id of `[ENC]`: first decoder token of matching."""
        return self.base_size + NUM_SENTINELS

    def _special_tokens_map(self) -> dict[str, Any]:
        return {
            "bos_token": "<s>",
            "cls_token": "<s>",
            "eos_token": "</s>",
            "sep_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
            "additional_special_tokens": list(self.special_tokens[len(CONTROL_TOKENS) :]),
        }


class _OfLanguageModel(Tokenizer):
    """Of a left-to-right language model, with sentinels and task tokens behind its own ids."""

    unk_id = None
    model_max_length = 2048
    # A left-to-right LM expects one <|endoftext|> before a text, and no padding is one.
    target_prefix = ()
    prompt_bounds = ((), ())  # as the released instruction tuning has it
    _own_special_tokens: tuple[str, ...] = (END_OF_TEXT,)

    def _set_ids(self, *, base_size: int, end_of_text: int) -> None:
        self.base_size = base_size
        self.start_id = self.bos_id = self.eos_id = end_of_text
        self.clm_id = base_size + NUM_SENTINELS
        self.pad_id = base_size + CODEGEN_TOKENS.index(PAD)

    @property
    def vocab_size(self) -> int:
        """Number of ids: CodeGen's 50,400 of the 51,200 rows in the released models."""
        return self.base_size + len(CODEGEN_TOKENS)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Every special token, in the order of ids."""
        return *self._own_special_tokens, *CODEGEN_TOKENS

    def sentinel_id(self, k: int) -> int:
        """Returns the id of `<extra_id_k>`; ids ascend with k."""
        _check_sentinel(k)
        return self.base_size + k

    @property
    def match_id(self) -> int:
        """Id of `[ENC]`: first decoder token of matching."""
        return self.clm_id + 1

    def with_task_tokens(self) -> "_OfLanguageModel":
        """Returns this tokenizer: they are always among its ids."""
        return self

    def _special_tokens_map(self) -> dict[str, Any]:
        others = [token for token in self.special_tokens if token not in (END_OF_TEXT, PAD)]
        return {
            **dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT),
            "pad_token": PAD,
            "additional_special_tokens": others,
        }


@final
class CodeGenTokenizer(_OfLanguageModel):
    """CodeGen's tokenizer, with sentinels and task tokens behind its own ids.

    Attributes:
        base_size: Ids of CodeGen itself, runs of whitespace included.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        whitespace_runs: Sequence[str],
    ):
        """Builds the tokenizer.

        Args:
            vocab: Entry -> id, `<|endoftext|>` among them.
            merges: Ranked.
            whitespace_runs: Texts that are one id each, in the order of their ids.

        Raises:
            ValueError: If there are gaps between ids, no `<|endoftext|>`, or no runs.
        """
        _check_codegen(vocab, whitespace_runs)
        self._set_ids(base_size=len(vocab) + len(whitespace_runs), end_of_text=vocab[END_OF_TEXT])
        self._vocab = dict(vocab)
        self._merges = list(merges)
        self._runs = tuple(whitespace_runs)
        self._tokenizer = _pipeline(models.BPE(vocab=self._vocab, merges=self._merges))
        self._tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        self._tokenizer.add_special_tokens([_added(END_OF_TEXT)])
        self._tokenizer.add_tokens([tokenizers.AddedToken(run) for run in self._runs])
        self._tokenizer.add_special_tokens([_added(token) for token in CODEGEN_TOKENS])
        self._tokenizer.encode_special_tokens = True

    @classmethod
    def _of_files(cls, files: TokenizerFiles) -> "CodeGenTokenizer":
        known = {END_OF_TEXT, *CODEGEN_TOKENS, *files.vocab}
        runs = {text: index for text, index in files.added.items() if text not in known}
        vocab = {e: i for e, i in files.vocab.items() if e not in CODEGEN_TOKENS and e not in runs}
        expected = range(len(vocab), len(vocab) + len(runs))
        if sorted(runs.values()) != list(expected):
            raise ValueError(
                f"The {len(runs)} added tokens have the ids {sorted(runs.values())[:3]}...; "
                f"expected {expected.start}..{expected.stop - 1}, behind the vocabulary's."
            )
        return cls(vocab, files.merges, whitespace_runs=sorted(runs, key=runs.__getitem__))

    @functools.cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of entries, merges, runs and special tokens."""
        return _digest([*self._canonical(), self._runs])


@final
class LanguageModelTokenizer(_OfLanguageModel):
    """A byte-level BPE of another language model, such as SmolLM2's, which cuts text its own way.

    Attributes:
        base_size: Ids of the model itself.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        special_tokens: Mapping[str, int],
        pre_tokenizer: Mapping[str, Any],
    ):
        """Builds the tokenizer.

        Args:
            vocab: Entry -> id.
            merges: Ranked.
            special_tokens: The model's own -> id, within `vocab` or behind it.
            pre_tokenizer: How text is cut before the BPE, as tokenizer.json says it.

        Raises:
            ValueError: If there are gaps between ids, no `<|endoftext|>`, or text is not cut into
                bytes, so that some has no ids.
        """
        ids = {**vocab, **special_tokens}
        if END_OF_TEXT not in special_tokens:
            raise ValueError(f"The tokenizer has no special token {END_OF_TEXT}, which is needed.")
        _check_ids({index: entry for entry, index in ids.items()}, len(ids))
        if '"ByteLevel"' not in json.dumps(pre_tokenizer):
            raise ValueError(
                f"The tokenizer cuts text by {pre_tokenizer.get('type')}; expected a byte-level "
                "BPE, whose pre-tokenizer has a part ByteLevel."
            )
        self._set_ids(base_size=len(ids), end_of_text=ids[END_OF_TEXT])
        self._vocab = dict(vocab)
        self._merges = list(merges)
        self._pre_tokenizer = dict(pre_tokenizer)
        self._own_special_tokens = tuple(sorted(special_tokens, key=special_tokens.__getitem__))
        plain = _pipeline(models.BPE(vocab=self._vocab, merges=self._merges))
        plain.post_processor = processors.ByteLevel(trim_offsets=False)
        described = {**json.loads(plain.to_str()), "pre_tokenizer": self._pre_tokenizer}
        self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(described))
        self._tokenizer.add_special_tokens([_added(token) for token in self.special_tokens])
        self._tokenizer.encode_special_tokens = True

    @classmethod
    def _of_files(cls, files: TokenizerFiles) -> "LanguageModelTokenizer":
        return cls(
            {entry: i for entry, i in files.vocab.items() if entry not in CODEGEN_TOKENS},
            files.merges,
            special_tokens={t: i for t, i in files.added.items() if t not in CODEGEN_TOKENS},
            pre_tokenizer=files.pre_tokenizer or {},
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of entries, merges, special tokens and cutting."""
        return _digest([*self._canonical(), self._pre_tokenizer])


def load_tokenizer(directory: str | pathlib.Path) -> Tokenizer:
    """Returns the tokenizer in `directory`.

    With `<|endoftext|>` it is CodeGen's, or that of another language model where tokenizer.json
    cuts text in another way than GPT-2, or has special tokens but no runs of whitespace; else it is
    CodeT5's.

    Raises:
        FileNotFoundError: If the directory holds no tokenizer.
        ValueError: If it holds one of none of these layouts.
    """
    files = read_files(directory)
    if END_OF_TEXT in files.vocab or END_OF_TEXT in files.added:
        others = files.added.keys() - {END_OF_TEXT, *CODEGEN_TOKENS}
        has_special_tokens = bool(others) and not any(map(str.isspace, others))
        cuts_alike = (files.pre_tokenizer or {}).get("type", "ByteLevel") == "ByteLevel"
        if has_special_tokens or not cuts_alike:
            return LanguageModelTokenizer._of_files(files)
        return CodeGenTokenizer._of_files(files)
    return CodeTokenizer._of_files(files)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = 32_000, *, min_frequency: int = 3
) -> CodeTokenizer:
    """Trains the byte-level BPE of CodeT5 on `texts`.

    Args:
        texts: Source code and documentation; read once.
        vocab_size: Entries of the BPE, of which 5 are control tokens and 256 are bytes. Sentinels
            and task tokens come on top.
        min_frequency: Pairs seen less often are not merged.

    Raises:
        ValueError: If the texts hold too few frequent pairs for `vocab_size` entries, or it has no
            room for control tokens and bytes.
    """
    fewest = len(CONTROL_TOKENS) + len(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < fewest:
        raise ValueError(
            f"vocab_size is {vocab_size:,}; control tokens and bytes take {fewest}: give more."
        )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer = _pipeline(models.BPE())
    tokenizer.train_from_iterator(texts, trainer=trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if len(model["vocab"]) != vocab_size:
        raise ValueError(
            f"The texts give a tokenizer of {len(model['vocab']):,} entries with min_frequency="
            f"{min_frequency}, not the {vocab_size:,} of vocab_size. Give more text, a smaller "
            "vocab_size, or a lower min_frequency."
        )
    return CodeTokenizer(model["vocab"], [(left, right) for left, right in model["merges"]])


def _pipeline(model: models.BPE) -> tokenizers.Tokenizer:
    """GPT-2's pre-tokenizer without prefix space: lossless on whitespace."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", CodeTokenizer.eos_id), ("<s>", CodeTokenizer.bos_id), add_prefix_space=False
    )
    return tokenizer


def _added(token: str) -> tokenizers.AddedToken:
    # Without lstrip, unlike the released files: a newline before a sentinel is no part of it.
    return tokenizers.AddedToken(token, special=True, normalized=False)


def _word_starts(word_ids: Sequence[int | None]) -> list[bool]:
    return [i == 0 or word_ids[i] != word_ids[i - 1] for i in range(len(word_ids))]


def _by_id(item: tuple[str, int]) -> int:
    return item[1]


def _digest(canonical: list[Any]) -> str:
    return hashlib.sha256(json.dumps(canonical).encode()).hexdigest()[:16]


def _check_sentinel(k: int) -> None:
    if not 0 <= k < NUM_SENTINELS:
        raise ValueError(f"No sentinel {k}: there are {NUM_SENTINELS}, numbered from 0.")


def _check_ids(by_id: Mapping[int, str], count: int) -> None:
    if sorted(by_id) != list(range(count)):
        raise ValueError(f"The ids of the {count:,} entries must be 0..{count - 1:,} without gaps.")


def _check_codegen(vocab: Mapping[str, int], whitespace_runs: Sequence[str]) -> None:
    if END_OF_TEXT not in vocab:
        raise ValueError(f"The vocabulary of CodeGen has {END_OF_TEXT}; this one has not.")
    _check_ids({index: entry for entry, index in vocab.items()}, len(vocab))
    if not whitespace_runs:
        raise ValueError(
            "There are no added tokens for runs of whitespace: this is GPT-2's tokenizer, or the "
            "folder lacks tokenizer.json and added_tokens.json of CodeGen's."
        )


def _check_vocab(vocab: Mapping[str, int]) -> None:
    by_id = {index: entry for entry, index in vocab.items()}
    _check_ids(by_id, len(vocab))
    first = tuple(by_id.get(i, "") for i in range(len(CONTROL_TOKENS)))
    if first != CONTROL_TOKENS:
        raise ValueError(
            f"Ids 0..4 of the vocabulary are {' '.join(first)}; expected "
            f"{' '.join(CONTROL_TOKENS)}. Is this the tokenizer of another model?"
        )


def _write_json(path: pathlib.Path, contents: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(contents, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
