"""Files become chunks that fit the model. No token is lost, and chunks are of even size."""

import tensorflow as tf

from codet5p_jax.data.blocks import Block
from codet5p_jax.data.slices import concatenate_slices, row_bounds
from codet5p_jax.data.tokenization import MAX_WORD_TOKENS


def concatenate_and_cut(block: Block, *, max_length: int, separator: int) -> Block:
    """Joins the files of a block, and cuts them between words into chunks of even size.

    Section 4.2 of CodeT5+ (arXiv version): "we concatenate and segment" files for denoising.

    Args:
        block: `tokens` and `word_lengths` of files; the word lengths of a file add up to its size.
        max_length: Tokens of the longest chunk, more than `MAX_WORD_TOKENS`.
        separator: Id put after each file; a word of its own.

    Returns:
        `tokens` and `word_lengths` of the chunks.
    """
    tokens = _append(block["tokens"], separator).values
    words = _append(block["word_lengths"], 1).values
    word_ends = tf.cumsum(words)
    total = tf.size(tokens)
    num_chunks = -(-total // (max_length - MAX_WORD_TOKENS))
    last_words = tf.searchsorted(word_ends, _even_bounds(total, num_chunks), side="left")
    word_splits = tf.concat([[0], last_words + 1], axis=0)
    token_splits = tf.concat([[0], tf.gather(word_ends, last_words)], axis=0)
    return {
        "tokens": tf.RaggedTensor.from_row_splits(tokens, token_splits, validate=False),
        "word_lengths": tf.RaggedTensor.from_row_splits(words, word_splits, validate=False),
    }


def cut_documents(block: Block, *, max_length: int) -> Block:
    """Cuts each file of a block into the fewest chunks of even size; short files stay whole.

    cut_documents({"tokens": [[1, 2, 3, 4, 5], [6]]}, max_length=3) -> [[1, 2], [3, 4, 5], [6]]

    Args:
        block: `tokens` of files. Empty files give no chunk.
        max_length: Tokens of the longest chunk.
    """
    tokens = block["tokens"]
    lengths = tf.cast(tokens.row_lengths(), tf.int32)
    chunks_per_file = -(-lengths // max_length)
    file = tf.repeat(tf.range(tf.size(lengths)), chunks_per_file)  # [chunks]
    index = tf.range(tf.size(file)) - tf.gather(tf.cumsum(chunks_per_file, exclusive=True), file)
    start = tf.gather(tf.cast(tokens.row_starts(), tf.int32), file)
    length, count = tf.gather(lengths, file), tf.gather(chunks_per_file, file)
    ends = start + _scale(length, index + 1, count)
    splits = tf.concat([[0], ends], axis=0)
    return {"tokens": tf.RaggedTensor.from_row_splits(tokens.values, splits, validate=False)}


def _append(rows: tf.RaggedTensor, value: int) -> tf.RaggedTensor:
    starts, limits = row_bounds(rows)
    size = tf.zeros_like(starts) + tf.size(rows.values)
    return concatenate_slices(
        tf.concat([rows.values, [value]], axis=0),
        tf.concat([starts, size], axis=1),
        tf.concat([limits, size + 1], axis=1),
    )


def _even_bounds(total: tf.Tensor, num_chunks: tf.Tensor) -> tf.Tensor:
    return _scale(total, tf.range(1, num_chunks + 1), tf.maximum(num_chunks, 1))


def _scale(size: tf.Tensor, numerator: tf.Tensor, denominator: tf.Tensor) -> tf.Tensor:
    """Returns size * numerator // denominator, without overflow."""
    size, numerator, denominator = (tf.cast(x, tf.int64) for x in (size, numerator, denominator))
    return tf.cast(size * numerator // denominator, tf.int32)
