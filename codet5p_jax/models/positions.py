"""Relative position biases of T5 (arXiv:1910.10683, section 2.1)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int


def distance_buckets(num_buckets: int, max_distance: int) -> Int[np.ndarray, " distances"]:
    """Returns the bucket of each distance 0..max_distance, in one direction.

    The first half of the buckets holds one distance each, the second half grows
    logarithmically up to `max_distance`; the last bucket holds all that lies beyond, too.
    Computed on the host in float64, so that no device's logarithm moves a boundary.
    """
    exact = num_buckets // 2
    distances = np.arange(max_distance + 1)
    growth = np.log(np.maximum(distances, 1) / exact) / np.log(max_distance / exact)
    logarithmic = exact + np.floor(growth * (num_buckets - exact) + 1e-6).astype(np.int64)
    buckets = np.where(distances < exact, distances, np.minimum(logarithmic, num_buckets - 1))
    return buckets.astype(np.int32)


def relative_position_buckets(
    relative_position: Int[Array, "..."],
    *,
    bidirectional: bool,
    num_buckets: int = 32,
    max_distance: int = 128,
) -> Int[Array, "..."]:
    """Returns the row of the bias table for each ``key position - query position``.

    Bidirectional, the upper half of the rows serves keys after the query; otherwise such keys
    share row 0 (a causal mask hides them).
    """
    one_direction = num_buckets // 2 if bidirectional else num_buckets
    behind = relative_position if bidirectional else jnp.minimum(relative_position, 0)
    distance = jnp.minimum(jnp.abs(behind), max_distance)
    buckets = jnp.asarray(distance_buckets(one_direction, max_distance))[distance]
    if bidirectional:
        buckets = buckets + one_direction * (relative_position > 0)
    return buckets.astype(jnp.int32)


def spread_along_diagonals(
    values: Float[Array, "heads offsets"], queries: int, keys: int
) -> Float[Array, "heads queries keys"]:
    """Returns the matrices whose entry (i, j) is ``values[:, (j - i) mod (queries + keys)]``.

    A matrix that depends on j - i alone has only queries + keys - 1 distinct entries. Written
    out by broadcast and reshape, so that neither it nor its gradient needs a gather: in rows of
    n - 1 out of a repeated row of n, entry (i, j) lies at i * (n - 1) + j = (j - i) mod n.
    """
    heads, n = values.shape
    rows = jnp.broadcast_to(values[:, None], [heads, queries, n]).reshape(heads, queries * n)
    skewed = rows[:, : queries * (n - 1)].reshape(heads, queries, n - 1)
    return skewed[:, :, :keys]


class RelativePositionBias(nn.Module):
    """A learned bias per head and bucket of relative positions, added to attention scores.

    Attributes:
        num_heads: Attention heads.
        bidirectional: Whether keys after the query have buckets of their own (encoder).
        num_buckets: Rows of the table.
        max_distance: Distances from here on share the last bucket.
    """

    num_heads: int
    bidirectional: bool
    num_buckets: int = 32
    max_distance: int = 128

    @nn.compact
    def __call__(
        self, queries: int, keys: int, query_offset: jax.Array | int = 0
    ) -> Float[Array, "1 heads queries keys"]:
        """Returns the bias for `queries` positions that start at `query_offset`, float32."""
        init = nn.with_logical_partitioning(
            nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"), ("relpos_buckets", "heads")
        )
        table = self.param("embedding", init, (self.num_buckets, self.num_heads), jnp.float32)
        offsets = jnp.arange(queries + keys, dtype=jnp.int32)
        relative = jnp.where(offsets < keys, offsets, offsets - (queries + keys)) - query_offset
        buckets = relative_position_buckets(
            relative,
            bidirectional=self.bidirectional,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
        )
        return spread_along_diagonals(table[buckets].T, queries, keys)[None]
