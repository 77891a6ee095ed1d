"""Files become chunks that fit the model. No token is lost, and chunks are of even size."""

import tensorflow as tf

from codet5p_jax.data.blocks import Block
from codet5p_jax.data.tokenization import MAX_WORD_TOKENS


def concatenate_and_cut(block: Block, *, max_length: int) -> Block:
    """Joins the files of a block, and cuts them between words into chunks of even size.

    So the arXiv version of CodeT5+ prepares files for denoising (section 4.2).

    Args:
        block: `tokens` and `word_lengths` of files, as `tokenize_files` makes them; the word
            lengths of a file add up to its size.
        max_length: Tokens of the longest chunk, more than `MAX_WORD_TOKENS`.

    Returns:
        `tokens` and `word_lengths` of the chunks.
    """
    tokens, words = block["tokens"].values, block["word_lengths"].values
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


def cut_files(tokens: tf.RaggedTensor, *, max_length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts each file into the fewest chunks of even size; short files stay whole.

    cut_files([[1, 2, 3, 4, 5, 0], [6, 0]], max_length=3) -> the chunks [1, 2], [3, 4, 5], [6]

    Args:
        tokens: Files, each with `</s>` at its end, which is no part of the chunks. Empty files
            give no chunk.
        max_length: Tokens of the longest chunk.

    Returns:
        Start and limit of each chunk in `tokens.values`: two int32 [chunks, 1].
    """
    lengths = tf.cast(tokens.row_lengths(), tf.int32) - 1
    chunks_per_file = -(-lengths // max_length)
    file = tf.repeat(tf.range(tf.size(lengths)), chunks_per_file)  # [chunks]
    index = tf.range(tf.size(file)) - tf.gather(tf.cumsum(chunks_per_file, exclusive=True), file)
    first = tf.gather(tf.cast(tokens.row_starts(), tf.int32), file)
    length, count = tf.gather(lengths, file), tf.gather(chunks_per_file, file)
    starts = first + _scale(length, index, count)
    limits = first + _scale(length, index + 1, count)
    return starts[:, tf.newaxis], limits[:, tf.newaxis]


def _even_bounds(total: tf.Tensor, num_chunks: tf.Tensor) -> tf.Tensor:
    return _scale(total, tf.range(1, num_chunks + 1), tf.maximum(num_chunks, 1))


def _scale(size: tf.Tensor, numerator: tf.Tensor, denominator: tf.Tensor) -> tf.Tensor:
    """Returns size * numerator // denominator, without overflow."""
    size, numerator, denominator = (tf.cast(x, tf.int64) for x in (size, numerator, denominator))
    return tf.cast(size * numerator // denominator, tf.int32)
