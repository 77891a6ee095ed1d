import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.kernels import position_bias
from codet5p_jax.kernels.position_bias import (
    PositionBias,
    distance_buckets,
    relative_position_buckets,
    spread_along_diagonals,
)


def test_near_distances_have_a_bucket_each_and_far_ones_share():
    assert distance_buckets(8, 16).tolist() == [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, *[7] * 5]


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 12), (64, 256), (32, 1000)])
def test_buckets_equal_transformers(bidirectional, buckets, distance):
    torch = pytest.importorskip("torch")
    from transformers.models.t5.modeling_t5 import T5Attention

    relative = np.arange(-2 * distance, 2 * distance + 1)
    theirs = T5Attention._relative_position_bucket(
        torch.tensor(relative), bidirectional, num_buckets=buckets, max_distance=distance
    ).numpy()
    ours = relative_position_buckets(
        jnp.asarray(relative),
        bidirectional=bidirectional,
        num_buckets=buckets,
        max_distance=distance,
    )
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_bias_at_an_offset_is_that_of_all_pairs_so_far_apart(rng, bidirectional):
    table = jax.random.normal(rng, [8, 3])
    bias = PositionBias(table=table, bidirectional=bidirectional, max_distance=12)
    offsets = np.arange(17)[None] - np.arange(9)[:, None]
    np.testing.assert_array_equal(bias.at(offsets), bias.matrix(9, 17)[0])


def test_values_lie_along_diagonals():
    values = jnp.arange(7.0)[None]  # 3 queries + 4 keys; the row of offset -1 is the last
    expected = [[0, 1, 2, 3], [6, 0, 1, 2], [5, 6, 0, 1]]
    np.testing.assert_array_equal(spread_along_diagonals(values, 3, 4)[0], expected)


def test_gradient_of_the_table_is_the_sum_over_equal_buckets(rng):
    weights = jax.random.normal(rng, [3, 6])

    def weighted(table):
        return jnp.sum(PositionBias(table=table, max_distance=5).matrix(3, 6)[0, 0] * weights)

    gradient = jax.grad(weighted)(jnp.zeros([4, 1]))
    buckets = relative_position_buckets(
        jnp.arange(6)[None, :] - jnp.arange(3)[:, None],
        bidirectional=True,
        num_buckets=4,
        max_distance=5,
    )
    expected = [float(jnp.sum(jnp.where(buckets == row, weights, 0))) for row in range(4)]
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("query_offset", [None, 5])
def test_bias_of_a_tpu_equals_that_of_a_cpu(rng, monkeypatch, bidirectional, query_offset):
    bias = PositionBias(
        table=jax.random.normal(rng, [8, 3]),
        query_offset=query_offset,
        bidirectional=bidirectional,
        max_distance=12,
    )
    weights = jax.random.normal(rng, [1, 3, 9, 17])

    def bias_and_gradient():
        def weighted(table):
            return jnp.sum(bias.replace(table=table).matrix(9, 17) * weights)

        return bias.matrix(9, 17), jax.grad(weighted)(bias.table)

    cpu, d_cpu = bias_and_gradient()
    monkeypatch.setattr(position_bias, "_bias_along_diagonals", position_bias._bias_by_choice)
    tpu, d_tpu = bias_and_gradient()
    np.testing.assert_array_equal(tpu, cpu)
    np.testing.assert_allclose(d_tpu, d_cpu, rtol=1e-5, atol=1e-5)  # sums in another order
