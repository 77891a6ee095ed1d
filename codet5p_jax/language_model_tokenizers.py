"""The tokenizers of language models that become parts of a CodeT5+ (section 3.3).

Ids of `CodeGenTokenizer`, whose `base_size` is CodeGen's 50,295. Which ones the released models use
as sentinels is not published; these are rows of the embedding that CodeGen leaves unused:

    0..50255                bytes and merges of GPT-2; 0 is an exclamation mark, not padding
    50256                   <|endoftext|>, which is `<s>`, `</s>` and a decoder's start
    50257..50294            runs of 31..2 spaces and of 9..2 tabs
    base_size + k           sentinel <extra_id_k>, k < 100: they ascend
    base_size + 100..103    [CLM] [ENC] [TDEC] [CDEC]
    base_size + 104         <pad>

Ids of `LanguageModelTokenizer`, for other models such as SmolLM2: those of the model,
`<|endoftext|>` among them, then the same 105.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, final

import tokenizers
from tokenizers import models, processors

from codet5p_jax.tokenizer_base import (
    NUM_SENTINELS,
    TASK_TOKENS,
    Tokenizer,
    byte_level,
    check_ids,
    check_sentinel,
    digest,
    special_token,
)
from codet5p_jax.tokenizer_files import TokenizerFiles

END_OF_TEXT = "<|endoftext|>"
PAD = "<pad>"
ADDED_TOKENS = (
    *(f"<extra_id_{k}>" for k in range(NUM_SENTINELS)),
    *("[CLM]", *TASK_TOKENS, PAD),
)


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
        self.pad_id = base_size + ADDED_TOKENS.index(PAD)

    @property
    def vocab_size(self) -> int:
        """Number of ids: CodeGen's 50,400 of the 51,200 rows in the released models."""
        return self.base_size + len(ADDED_TOKENS)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Every special token, in the order of ids."""
        return *self._own_special_tokens, *ADDED_TOKENS

    def sentinel_id(self, k: int) -> int:
        """Returns the id of `<extra_id_k>`; ids ascend with k."""
        check_sentinel(k)
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
        self._tokenizer = byte_level(models.BPE(vocab=self._vocab, merges=self._merges))
        self._tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        self._tokenizer.add_special_tokens([special_token(END_OF_TEXT)])
        self._tokenizer.add_tokens([tokenizers.AddedToken(run) for run in self._runs])
        self._tokenizer.add_special_tokens([special_token(token) for token in ADDED_TOKENS])
        self._tokenizer.encode_special_tokens = True

    @classmethod
    def _of_files(cls, files: TokenizerFiles) -> "CodeGenTokenizer":
        known = {END_OF_TEXT, *ADDED_TOKENS, *files.vocab}
        runs = {text: index for text, index in files.added.items() if text not in known}
        vocab = {e: i for e, i in files.vocab.items() if e not in ADDED_TOKENS and e not in runs}
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
        return digest([*self._canonical(), self._runs])


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
        check_ids({index: entry for entry, index in ids.items()}, len(ids))
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
        plain = byte_level(models.BPE(vocab=self._vocab, merges=self._merges))
        plain.post_processor = processors.ByteLevel(trim_offsets=False)
        described = {**json.loads(plain.to_str()), "pre_tokenizer": self._pre_tokenizer}
        self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(described))
        self._tokenizer.add_special_tokens([special_token(token) for token in self.special_tokens])
        self._tokenizer.encode_special_tokens = True

    @classmethod
    def _of_files(cls, files: TokenizerFiles) -> "LanguageModelTokenizer":
        return cls(
            {entry: i for entry, i in files.vocab.items() if entry not in ADDED_TOKENS},
            files.merges,
            special_tokens={t: i for t, i in files.added.items() if t not in ADDED_TOKENS},
            pre_tokenizer=files.pre_tokenizer or {},
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of entries, merges, special tokens and cutting."""
        return digest([*self._canonical(), self._pre_tokenizer])


def _check_codegen(vocab: Mapping[str, int], whitespace_runs: Sequence[str]) -> None:
    if END_OF_TEXT not in vocab:
        raise ValueError(f"The vocabulary of CodeGen has {END_OF_TEXT}; this one has not.")
    check_ids({index: entry for entry, index in vocab.items()}, len(vocab))
    if not whitespace_runs:
        raise ValueError(
            "There are no added tokens for runs of whitespace: this is GPT-2's tokenizer, which "
            "is not supported, or tokenizer.json or added_tokens.json of CodeGen's is missing: "
            "copy it there."
        )
