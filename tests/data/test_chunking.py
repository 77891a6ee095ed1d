import numpy as np
import pytest
import tensorflow as tf

from codet5p_jax.data.chunking import concatenate_and_cut, cut_files
from codet5p_jax.data.tokenization import MAX_WORD_TOKENS


def _files(sizes, rng):
    """Files of random words; tokens count up from 5 so that order is visible."""
    words, tokens, first = [], [], 5
    for size in sizes:
        lengths = []
        while sum(lengths) < size:
            lengths.append(int(min(rng.integers(1, MAX_WORD_TOKENS + 1), size - sum(lengths))))
        words.append([*lengths, 1])
        tokens.append([*range(first, first + size), 2])
        first += size
    return {
        "tokens": tf.ragged.constant(tokens, tf.int32, row_splits_dtype=tf.int32),
        "word_lengths": tf.ragged.constant(words, tf.int32, row_splits_dtype=tf.int32),
    }


@pytest.mark.parametrize("sizes", [[300, 7, 1000], [5], [64], [2000, 2000]])
@pytest.mark.parametrize("max_length", [40, 64, 512])
def test_files_are_joined_and_cut_without_loss(sizes, max_length):
    files = _files(sizes, np.random.default_rng(sum(sizes)))
    chunks = concatenate_and_cut(files, max_length=max_length)
    assert np.array_equal(chunks["tokens"].values, files["tokens"].values)
    lengths = chunks["tokens"].row_lengths().numpy()
    assert lengths.max() <= max_length and lengths.min() > 0


def test_chunks_are_whole_words():
    files = _files([500, 300], np.random.default_rng(0))
    chunks = concatenate_and_cut(files, max_length=60)
    words = tf.reduce_sum(chunks["word_lengths"], axis=1)
    assert np.array_equal(words, chunks["tokens"].row_lengths())


def test_chunks_are_of_even_size():
    files = _files([5000], np.random.default_rng(1))
    lengths = concatenate_and_cut(files, max_length=100)["tokens"].row_lengths().numpy()
    assert np.ptp(lengths) <= 2 * MAX_WORD_TOKENS
    assert len(lengths) == -(-5001 // (100 - MAX_WORD_TOKENS))


def test_no_files_give_no_chunks():
    empty = tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int32), tf.zeros([0], tf.int32))
    chunks = concatenate_and_cut({"tokens": empty, "word_lengths": empty}, max_length=40)
    assert chunks["tokens"].nrows() == 0
    assert cut_files(empty, max_length=40)[0].shape == (0, 1)


def test_each_file_is_cut_into_the_fewest_even_chunks():
    tokens = tf.ragged.constant([[11, 12, 13, 14, 15, 2], [16, 2], [2]], row_splits_dtype=tf.int32)
    starts, limits = cut_files(tokens, max_length=3)
    values = tokens.values.numpy().tolist()
    chunks = [values[a:b] for a, b in zip(starts[:, 0], limits[:, 0], strict=True)]
    assert chunks == [[11, 12], [13, 14, 15], [16]]
