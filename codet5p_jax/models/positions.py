"""Positions in segments, and the parameters of T5's bias by relative position."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Int

from codet5p_jax.kernels.position_bias import PositionBias


def positions_in_segments(
    segments: Int[Array | np.ndarray, "batch length"] | None,
    length: int,
    offset: jax.Array | int = 0,
) -> Int[Array, "#batch length"]:
    """Returns the position of each token, counted from the start of its segment.

    Args:
        segments: Segment of each token; None: one segment per row.
        length: Tokens of a row.
        offset: Position of the first token; 0 where there are segments.
    """
    index = jnp.arange(length, dtype=jnp.int32)[None] + offset
    if segments is None:
        return index
    starts = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)))
    return index - jax.lax.cummax(jnp.where(starts, index, 0), axis=1)


class RelativePositionBias(nn.Module):
    """The table of a stack's position bias.

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
    def __call__(self, query_offset: jax.Array | int | None = None) -> PositionBias:
        """Returns the bias of queries that start at `query_offset`, or at 0, not yet spread."""
        init = nn.with_logical_partitioning(
            nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"), ("relpos_buckets", "heads")
        )
        table = self.param("embedding", init, (self.num_buckets, self.num_heads), jnp.float32)
        return PositionBias(
            table=table,
            query_offset=query_offset,
            bidirectional=self.bidirectional,
            max_distance=self.max_distance,
        )
