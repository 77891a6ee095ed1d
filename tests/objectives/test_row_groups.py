"""Tests of codet5p_jax.objectives.row_groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType

from codet5p_jax.objectives.row_groups import bucket_lengths, group_rows, row_lengths

LENGTHS = [20, 3, 32, 9, 1, 17, 8, 25]


def _tokens(lengths=LENGTHS, width=32):
    return jnp.asarray(np.arange(width)[None] < np.array(lengths)[:, None], jnp.int32) * 7


def test_a_row_is_as_long_as_its_last_token():
    assert row_lengths(jnp.array([[1, 0, 2, 0], [0, 0, 0, 0], [1, 2, 3, 4]]), 0).tolist() == [
        3,
        0,
        4,
    ]


def test_bucket_lengths_are_multiples_of_eight_and_end_with_the_whole():
    assert bucket_lengths(420, 4) == (112, 216, 320, 420)
    assert bucket_lengths(128, 4) == (32, 64, 96, 128)
    assert bucket_lengths(6, 4) == (6,)
    assert bucket_lengths(56, 1) == (56,)


def test_each_group_gets_the_shortest_length_that_holds_its_rows():
    tokens = _tokens()
    groups = group_rows(tokens, count=4, num_lengths=4, pad_id=0)
    longest = np.sort(LENGTHS).reshape(4, 2).max(axis=1)
    assert longest.tolist() == [3, 9, 20, 32]
    assert [groups.lengths[i] for i in groups.choice] == [8, 16, 24, 32]
    lengths = jax.vmap(row_lengths, in_axes=(0, None))(groups.split(tokens), 0)
    assert np.sort(lengths, axis=1).tolist() == np.sort(LENGTHS).reshape(4, 2).tolist()


@pytest.mark.parametrize("num_lengths", [1, 4])
def test_joining_undoes_splitting(num_lengths):
    tokens = _tokens()
    groups = group_rows(tokens, count=2, num_lengths=num_lengths, pad_id=0)
    rows = {"ids": jnp.arange(8), "tokens": tokens}
    jax.tree.map(np.testing.assert_array_equal, groups.join(groups.split(rows)), rows)


def test_with_one_length_groups_hold_the_same_rows_on_any_mesh():
    def split(tokens):
        groups = group_rows(tokens, count=2, num_lengths=1, pad_id=0)
        assert groups.choice is None
        return groups.split(jnp.arange(8))

    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    rules = (("batch", "data"),)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh), nn.logical_axis_rules(rules):
        on_two = jax.jit(split)(_tokens())
    assert on_two.tolist() == split(_tokens()).tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_rows_stay_on_their_device():
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    rules = (("batch", "data"),)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh), nn.logical_axis_rules(rules):
        groups = jax.jit(lambda tokens: group_rows(tokens, count=2, num_lengths=4, pad_id=0))(
            _tokens()
        )
    assert np.sort(groups.order, axis=1).tolist() == [[0, 1, 2, 3]] * 2
    # rows 0..3 lie on the first device of `data`, 4..7 on the second: half of each group is of each
    groups = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), groups)  # off the devices
    assert (
        np.sort(np.asarray(groups.split(jnp.arange(8))) // 4, axis=1).tolist() == [[0, 0, 1, 1]] * 2
    )


def test_groups_that_do_not_divide_the_rows_are_refused():
    with pytest.raises(ValueError, match="MICROBATCHES is 3, which does not divide the 8 rows"):
        group_rows(_tokens(), count=3, num_lengths=1, pad_id=0)
