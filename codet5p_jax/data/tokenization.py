"""Records of the corpus become ids: the part of every task that SeqIO's offline cache stores."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from codet5p_jax.data.blocks import Block
from codet5p_jax.tokenizer import Tokenizer

# Longer words (a line of dashes, an encoded picture) are cut, so that chunks can end between words.
MAX_WORD_TOKENS = 16


def tokenize_files(
    block: Block,
    *,
    tokenizer: Tokenizer,
    seed: object = None,
    sequence_length: Mapping[str, int] | None = None,
) -> Block:
    """Returns `tokens` and `word_lengths` (tokens per word) of the field `code`.

    Each file ends with `</s>`, a word of its own, so that files can be joined as they are.
    """

    def tokenize(texts: np.ndarray) -> tuple[np.ndarray, ...]:
        encoded = tokenizer.encode_with_word_starts(_strings(texts))
        ids = [[*ids, tokenizer.eos_id] for ids, _ in encoded]
        words = [[*word_lengths(starts), 1] for _, starts in encoded]
        return *_flatten(ids), *_flatten(words)

    tokens, token_lengths, words, word_counts = tf.numpy_function(
        tokenize, [block["code"]], [tf.int32] * 4
    )
    return {"tokens": _ragged(tokens, token_lengths), "word_lengths": _ragged(words, word_counts)}


def tokenize_pairs(
    block: Block,
    *,
    tokenizer: Tokenizer,
    seed: object = None,
    sequence_length: Mapping[str, int] | None = None,
) -> Block:
    """Returns ids of `docstring` as `text` and of `code` as `code`, and `pair_id`.

    Functions without documentation are no pairs and are left out.
    """
    documented = tf.strings.length(block["docstring"]) > 0

    def column(name: str) -> tf.RaggedTensor:
        return encode_column(tf.boolean_mask(block[name], documented), tokenizer)

    ids = tf.boolean_mask(block["id"], documented)
    hashed = tf.strings.to_hash_bucket_fast(ids, 2**31 - 1)
    return {
        "text": column("docstring"),
        "code": column("code"),
        "pair_id": tf.cast(hashed, tf.int32),
    }


def encode_column(texts: tf.Tensor, tokenizer: Tokenizer) -> tf.RaggedTensor:
    """Returns the ids of each of `texts`, string [rows]: int32 [rows, None]."""

    def encode(texts: np.ndarray) -> tuple[np.ndarray, ...]:
        return _flatten(tokenizer.encode_batch(_strings(texts)))

    return _ragged(*tf.numpy_function(encode, [texts], [tf.int32] * 2))


def word_lengths(starts: Sequence[bool]) -> list[int]:
    """Returns the tokens per word, words above `MAX_WORD_TOKENS` cut.

    word_lengths([True, False, True]) -> [2, 1]
    """
    bounds = np.append(np.flatnonzero(starts), len(starts))
    lengths: list[int] = []
    for length in np.diff(bounds).tolist():
        whole, rest = divmod(length, MAX_WORD_TOKENS)
        lengths += [MAX_WORD_TOKENS] * whole + [rest] * (rest > 0)
    return lengths


def _strings(texts: np.ndarray) -> list[str]:
    return [text.decode("utf-8") for text in texts]


def _flatten(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    values = [np.asarray(row, np.int32) for row in rows]
    flat = np.concatenate([*values, np.zeros(0, np.int32)])
    return flat, np.array([value.size for value in values], np.int32)


def _ragged(values: tf.Tensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    values, lengths = tf.ensure_shape(values, [None]), tf.ensure_shape(lengths, [None])
    return tf.RaggedTensor.from_row_lengths(values, lengths, validate=False)
