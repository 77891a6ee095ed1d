"""The byte-level BPE of CodeT5+: text <-> ids, its special tokens, its training.

Ids of a tokenizer with `base_size` entries (32,000 in the paper; CODET5+, section 4.2):

    0..4                    <pad> <s> </s> <unk> <mask>; `[CLM]` is the reused <unk>
    5..base_size - 1        bytes and merges
    base_size + 99 - k      sentinel <extra_id_k>, k < 100: they descend
    base_size + 100..102    [ENC] (also [Match]), [TDEC], [CDEC]: two-stage models only

A sequence is `<s> ... </s>`. Special tokens are ids that are inserted, never text that is parsed:
`encode("<s>")` gives the ids of three characters.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, final

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

CONTROL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")
TASK_TOKENS = ("[ENC]", "[TDEC]", "[CDEC]")
NUM_SENTINELS = 100


@final
class CodeTokenizer:
    """A trained tokenizer. Immutable; equal tokenizers have equal fingerprints.

    Attributes:
        base_size: Entries of the BPE, control tokens included.
        has_task_tokens: Whether `[ENC]`, `[TDEC]` and `[CDEC]` are part of the vocabulary.
    """

    pad_id, bos_id, eos_id, unk_id, mask_id = range(len(CONTROL_TOKENS))
    clm_id = unk_id  # `[CLM]`, as in the released models

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
    def from_directory(cls, directory: str | pathlib.Path) -> "CodeTokenizer":
        """Reads tokenizer.json, or vocab.json and merges.txt, from `directory`.

        Raises:
            FileNotFoundError: If the directory holds neither.
            ValueError: If a file is no byte-level BPE of this layout.
        """
        directory = pathlib.Path(directory)
        if (directory / "tokenizer.json").exists():
            return cls(**_read_tokenizer_json(directory / "tokenizer.json"))
        if (directory / "vocab.json").exists() and (directory / "merges.txt").exists():
            return cls(**_read_vocab_and_merges(directory))
        raise FileNotFoundError(
            f"No tokenizer in {str(directory)!r}: expected tokenizer.json, or vocab.json and "
            "merges.txt. Train one with `codet5p tokenizer train --corpus=DIR --out=DIR`."
        )

    def save(self, directory: str | pathlib.Path) -> None:
        """Writes the files with which `from_directory` and transformers load this tokenizer."""
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        merges = "".join(f"{left} {right}\n" for left, right in self._merges)
        self._tokenizer.save(str(directory / "tokenizer.json"))
        (directory / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
        _write_json(directory / "vocab.json", dict(sorted(self._vocab.items(), key=_by_id)))
        _write_json(directory / "tokenizer_config.json", self._huggingface_config())
        _write_json(directory / "special_tokens_map.json", self._special_tokens_map())

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
        if not 0 <= k < NUM_SENTINELS:
            raise ValueError(f"No sentinel {k}: there are {NUM_SENTINELS}, numbered from 0.")
        return self.base_size + NUM_SENTINELS - 1 - k

    @property
    def match_id(self) -> int:
        """Id of `[ENC]`: first decoder token of matching."""
        return self.base_size + NUM_SENTINELS

    @property
    def tdec_id(self) -> int:
        """Id of `[TDEC]`: first decoder token of writing text."""
        return self.match_id + 1

    @property
    def cdec_id(self) -> int:
        """Id of `[CDEC]`: first decoder token of writing code."""
        return self.match_id + 2

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`, without `<s>` and `</s>`; `decode` inverts it."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

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

    @functools.cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of entries, merges and special tokens."""
        canonical = [sorted(self._vocab.items(), key=_by_id), self._merges, self.special_tokens]
        return hashlib.sha256(json.dumps(canonical).encode()).hexdigest()[:16]

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

    def _huggingface_config(self) -> dict[str, Any]:
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 512,
            **self._special_tokens_map(),
        }


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
        ValueError: If the texts hold too few frequent pairs for `vocab_size` entries.
    """
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


def _check_vocab(vocab: Mapping[str, int]) -> None:
    by_id = {index: entry for entry, index in vocab.items()}
    if sorted(by_id) != list(range(len(vocab))):
        raise ValueError(
            f"The ids of the {len(vocab):,} entries must be 0..{len(vocab) - 1:,} without gaps."
        )
    first = tuple(by_id.get(i, "") for i in range(len(CONTROL_TOKENS)))
    if first != CONTROL_TOKENS:
        raise ValueError(
            f"Ids 0..4 of the vocabulary are {' '.join(first)}; expected "
            f"{' '.join(CONTROL_TOKENS)}. Is this the tokenizer of another model?"
        )


def _read_tokenizer_json(path: pathlib.Path) -> dict[str, Any]:
    contents = _read_json(path)
    model = contents.get("model", {})
    if model.get("type") != "BPE":
        raise ValueError(f"{str(path)!r} holds a {model.get('type')} tokenizer; expected BPE.")
    added = {token["content"] for token in contents.get("added_tokens", [])}
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    return {
        "vocab": {k: v for k, v in model["vocab"].items() if k not in added - set(CONTROL_TOKENS)},
        "merges": merges,
        "has_task_tokens": TASK_TOKENS[0] in added,
    }


def _read_vocab_and_merges(directory: pathlib.Path) -> dict[str, Any]:
    added = directory / "added_tokens.json"
    return {
        "vocab": _read_json(directory / "vocab.json"),
        "merges": list(_parse_merges(directory / "merges.txt")),
        "has_task_tokens": added.exists() and TASK_TOKENS[0] in _read_json(added),
    }


def _parse_merges(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise ValueError(f"{path}:{number}: a merge is two entries, got {line!r}.")
        yield pair[0], pair[1]


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r} is no JSON file: {error}.") from error


def _write_json(path: pathlib.Path, contents: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(contents, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
