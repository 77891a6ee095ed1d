import tensorflow as tf

from codet5p_jax.data.slices import concatenate_slices, enclose, interleave


def test_rows_are_put_together_from_slices():
    rows = concatenate_slices(
        tf.constant([5, 6, 7, 8]), tf.constant([[0, 3], [1, 1]]), tf.constant([[1, 4], [3, 1]])
    )
    assert rows.to_list() == [[5, 8], [6, 7]]


def test_no_rows_give_no_rows():
    empty = tf.zeros([0, 2], tf.int32)
    assert concatenate_slices(tf.constant([5]), empty, empty).to_list() == []


def test_interleave_alternates_columns():
    assert interleave(tf.constant([[1, 2]]), tf.constant([[3, 4]])).numpy().tolist() == [
        [1, 3, 2, 4]
    ]


def test_enclose_puts_ids_around_each_slice():
    rows = enclose(
        tf.constant([5, 6, 7]), [1], tf.constant([[0], [2]]), tf.constant([[2], [2]]), [2, 3]
    )
    assert rows.to_list() == [[1, 5, 6, 2, 3], [1, 2, 3]]
