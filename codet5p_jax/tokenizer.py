"""The byte-level BPE of CodeT5+: text <-> ids, special tokens, training; and loading of others.

Ids of `CodeTokenizer`, with `base_size` entries (32,000 in the paper; CODET5+, section 4.2):

    0..4                    <pad> <s> </s> <unk> <mask>; `[CLM]` is the reused <unk>
    5..base_size - 1        bytes and merges
    base_size + 99 - k      sentinel <extra_id_k>, k < 100: they descend
    base_size + 100..102    [ENC] (also [Match]), [TDEC], [CDEC]: two-stage models only

A sequence is `<s> ... </s>`. A decoder starts with <pad>, then reads `<s> ... `.

Special tokens are ids that are inserted, never text that is parsed: `encode("<s>")` gives the ids
of three characters.

Models whose parts come from language models have the tokenizers of language_model_tokenizers.py.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from tokenizers import models, pre_tokenizers, processors, trainers

from codet5p_jax.language_model_tokenizers import (
    ADDED_TOKENS,
    END_OF_TEXT,
    CodeGenTokenizer,
    LanguageModelTokenizer,
)
from codet5p_jax.tokenizer_base import (
    NUM_SENTINELS,
    TASK_TOKENS,
    Tokenizer,
    byte_level,
    check_ids,
    check_sentinel,
    special_token,
)
from codet5p_jax.tokenizer_files import TokenizerFiles, read_files

CONTROL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")


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
        self._tokenizer = byte_level(models.BPE(vocab=self._vocab, merges=self._merges))
        self._tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", self.eos_id), ("<s>", self.bos_id), add_prefix_space=False
        )
        self._tokenizer.add_special_tokens([special_token(token) for token in self.special_tokens])
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
        check_sentinel(k)
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
    try:
        return _tokenizer_of(files)
    except ValueError as error:
        raise ValueError(f"The tokenizer in {directory}: {error}") from error


def _tokenizer_of(files: TokenizerFiles) -> Tokenizer:
    if END_OF_TEXT in files.vocab or END_OF_TEXT in files.added:
        others = files.added.keys() - {END_OF_TEXT, *ADDED_TOKENS}
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
    tokenizer = byte_level(models.BPE())
    tokenizer.train_from_iterator(texts, trainer=trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if len(model["vocab"]) != vocab_size:
        raise ValueError(
            f"The texts give a tokenizer of {len(model['vocab']):,} entries with min_frequency="
            f"{min_frequency}, not the {vocab_size:,} of vocab_size. Give more text, a smaller "
            "vocab_size, or a lower min_frequency."
        )
    return CodeTokenizer(model["vocab"], [(left, right) for left, right in model["merges"]])


def _check_vocab(vocab: Mapping[str, int]) -> None:
    by_id = {index: entry for entry, index in vocab.items()}
    check_ids(by_id, len(vocab))
    first = tuple(by_id.get(i, "") for i in range(len(CONTROL_TOKENS)))
    if first != CONTROL_TOKENS:
        raise ValueError(
            f"Ids 0..4 of the vocabulary are {' '.join(first)}; expected "
            f"{' '.join(CONTROL_TOKENS)}. Is this the tokenizer of another model?"
        )
