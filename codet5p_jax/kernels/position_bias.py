"""T5's bias of attention scores by relative position (arXiv:1910.10683, section 2.1).

Both as a whole matrix, and as the few values that such a matrix is made of.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int


class PositionBias(struct.PyTreeNode):
    """A learned bias per head and bucket of relative positions, not yet spread.

    Attributes:
        table: Bias of each bucket and head, float32.
        query_offset: Position of the first query among the keys, in cached decoding; None: 0.
        bidirectional: Whether keys after the query have buckets of their own (encoder).
        max_distance: Distances from here on share the last bucket.
    """

    table: Float[Array, "buckets heads"]
    query_offset: jax.Array | int | None = None
    bidirectional: bool = struct.field(pytree_node=False, default=True)
    max_distance: int = struct.field(pytree_node=False, default=128)

    def matrix(self, queries: int, keys: int) -> Float[Array, "1 heads queries keys"]:
        """Returns the bias of each query and key, float32."""
        spread = {"queries": queries, "keys": keys, "to_bucket": self.buckets}
        bias = jax.lax.platform_dependent(
            self.table,
            jnp.int32(0 if self.query_offset is None else self.query_offset),
            cpu=functools.partial(_bias_along_diagonals, **spread),
            default=functools.partial(_bias_by_choice, **spread),
        )
        return bias[None]

    def at(self, offsets: Int[np.ndarray, "*shape"]) -> Float[Array, "heads *shape"]:
        """Returns the bias at each key position - query position, by a product with choices."""
        chosen = jax.nn.one_hot(self.buckets(jnp.asarray(offsets)), self.table.shape[0])
        exact = jax.lax.Precision.HIGHEST
        return jnp.einsum("...b,bh->h...", chosen, self.table, precision=exact)

    def buckets(self, relative_position: Int[Array, "..."]) -> Int[Array, "..."]:
        """Returns the row of the table for each key position - query position."""
        return relative_position_buckets(
            relative_position,
            bidirectional=self.bidirectional,
            num_buckets=self.table.shape[0],
            max_distance=self.max_distance,
        )


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
    in_order = distance_buckets(one_direction, max_distance)
    # Counted in comparisons, which become part of what reads the buckets, as no gather does.
    firsts = np.searchsorted(in_order, np.arange(1, one_direction)).astype(np.int32)
    reached = distance[None] >= firsts.reshape(-1, *[1] * distance.ndim)
    buckets = jnp.sum(reached, axis=0, dtype=jnp.int32)
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


def _bias_along_diagonals(table, query_offset, *, queries, keys, to_bucket):
    offsets = jnp.arange(queries + keys, dtype=jnp.int32)
    relative = jnp.where(offsets < keys, offsets, offsets - (queries + keys))
    return spread_along_diagonals(table[to_bucket(relative - query_offset)].T, queries, keys)


def _bias_by_choice(table, query_offset, *, queries, keys, to_bucket):
    """Returns the same by comparisons, of which TPUs write no more than the result.

    There the reshapes of `spread_along_diagonals` copy forty times that; on CPUs they are free. A
    product with a matrix of choices took a step 7% longer to compile and moved 1% more.
    """
    positions = jnp.arange(queries, dtype=jnp.int32)[:, None] + query_offset
    buckets = to_bucket(jnp.arange(keys, dtype=jnp.int32)[None] - positions)
    chosen = buckets[None, None] == jnp.arange(table.shape[0], dtype=jnp.int32).reshape(-1, 1, 1, 1)
    return jnp.sum(jnp.where(chosen, table[:, :, None, None], 0), axis=0)
