"""Rows put together from slices of one long array: two large operations, whatever the layout."""

import tensorflow as tf


def concatenate_slices(values: tf.Tensor, starts: tf.Tensor, limits: tf.Tensor) -> tf.RaggedTensor:
    """Returns rows of slices: row r is values[starts[r, 0]:limits[r, 0]] + values[starts[r, 1]:...

    concatenate_slices([5, 6, 7, 8], [[0, 3], [1, 1]], [[1, 4], [3, 1]]) -> [[5, 8], [6, 7]]

    Args:
        values: [size], what the rows are made of.
        starts: int32 [rows, slices], first index of each slice.
        limits: int32 [rows, slices], index after the last of each slice; never below its start.
    """
    indices = tf.ragged.range(
        tf.reshape(starts, [-1]), tf.reshape(limits, [-1]), row_splits_dtype=tf.int32
    ).values
    lengths = tf.reduce_sum(limits - starts, axis=1)
    return tf.RaggedTensor.from_row_lengths(tf.gather(values, indices), lengths, validate=False)


def interleave(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Returns [rows, 2 * columns]: first[:, 0], second[:, 0], first[:, 1], ..."""
    rows, columns = tf.unstack(tf.shape(first))
    return tf.reshape(tf.stack([first, second], axis=-1), [rows, 2 * columns])


def row_bounds(rows: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where each row starts and ends in `rows.values`: two int32 [rows, 1]."""
    splits = tf.cast(rows.row_splits, tf.int32)
    return splits[:-1, tf.newaxis], splits[1:, tf.newaxis]


def enclose(
    values: tf.Tensor,
    before: list[int],
    starts: tf.Tensor,
    limits: tf.Tensor,
    after: list[int],
) -> tf.RaggedTensor:
    """Returns rows of `before`, then values[starts[r]:limits[r]], then `after`.

    Args:
        values: int32 [size], where the slices are taken from.
        before: Ids in front of each slice.
        starts: int32 [rows, 1].
        limits: int32 [rows, 1].
        after: Ids behind each slice.
    """
    size = tf.zeros_like(starts) + tf.size(values)
    behind = size + len(before)
    return concatenate_slices(
        tf.concat([values, tf.constant([*before, *after], tf.int32)], axis=0),
        tf.concat([size, starts, behind], axis=1),
        tf.concat([behind, limits, behind + len(after)], axis=1),
    )
