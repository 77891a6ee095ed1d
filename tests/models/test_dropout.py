"""Tests of codet5p_jax.models.dropout."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from codet5p_jax.models.dropout import keep_masks

SHAPES = {"wide": (3, 40), "narrow": (5,)}


def test_masks_keep_the_share_that_the_rate_leaves():
    masks = keep_masks(jax.random.key(0), 0.3, 64, {"only": (200,)})
    share, draws = masks["only"].mean(), masks["only"].size
    assert abs(share - 0.7) < 4 * np.sqrt(0.3 * 0.7 / draws)  # four standard deviations


def test_a_row_draws_the_same_in_a_batch_of_any_size():
    few, many = (keep_masks(jax.random.key(0), 0.5, rows, SHAPES) for rows in (4, 9))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:4]), few, many)


def test_rows_and_keys_draw_differently():
    one, other = (keep_masks(jax.random.key(seed), 0.5, 2, SHAPES)["wide"] for seed in (0, 1))
    assert (one[0] != one[1]).any()
    assert (one != other).any()


def test_devices_with_rows_of_their_own_draw_what_one_device_draws():
    mesh = jax.make_mesh((2, 4), ("slice", "data"), axis_types=(AxisType.Auto,) * 2)

    def draw(rows):
        return keep_masks(jax.random.key(0), 0.5, rows.shape[0], SHAPES)

    rows = PartitionSpec(("slice", "data"))
    apart = jax.shard_map(draw, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
    jax.tree.map(np.testing.assert_array_equal, jax.jit(apart)(jnp.zeros([16])), draw(np.zeros(16)))
