"""Who may attend to whom, described by segments instead of by a matrix.

A segment id names the example a position belongs to; 0 is padding. One example to a row is
the special case of ids 0 and 1. The description is what a fused kernel needs; `as_bias`
gives the matrix, in the smallest shape that broadcasts to [batch, heads, queries, keys].
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

MASKED = -1e9  # exp(score + MASKED) is 0, and a row of nothing but MASKED still has no NaN

AnyArray = Array | np.ndarray
Segments = Int[AnyArray, "batch length"]


class AttentionMask(struct.PyTreeNode):
    """Which keys each query attends to.

    Attributes:
        key_segments: Segment of each key [batch, keys]; 0 is never attended to. None: all are.
        query_segments: Segment of each query [batch, queries]; it sees the keys of its own
            segment only. None: it sees every key that is no padding.
        query_offset: Position of the first query among the keys, in cached decoding; None: as the
            keys, queries begin at 0.
        causal: Whether a query sees only keys at its own position and before.
    """

    key_segments: AnyArray | None = None
    query_segments: AnyArray | None = None
    query_offset: jax.Array | int | None = None
    causal: bool = struct.field(pytree_node=False, default=False)

    @property
    def first_query(self) -> jax.Array | int:
        """Returns the position of the first query among the keys."""
        return 0 if self.query_offset is None else self.query_offset

    def as_bias(self, queries: int, keys: int) -> Float[Array, "#batch 1 #queries #keys"]:
        """Returns 0 where a query may look and `MASKED` where not, to be added to scores."""
        bias = jnp.zeros([1, 1, 1, 1], jnp.float32)
        if self.causal:
            bias = bias + masked_unless(self._is_past(queries, keys)[None, None])
        if self.query_segments is not None and self.key_segments is not None:
            same = self.query_segments[:, :, None] == self.key_segments[:, None, :]
            bias = bias + masked_unless(same[:, None])
        elif self.key_segments is not None:
            bias = bias + masked_unless(self.key_segments[:, None, None, :] != 0)
        return bias

    def seen(self, queries: int, keys: int) -> Bool[Array, "#batch 1 #queries #keys"] | None:
        """Returns whether a query may look at a key; None where all look at all."""
        bias = self.as_bias(queries, keys)
        return None if bias.size == 1 else bias == 0

    def _is_past(self, queries: int, keys: int) -> jax.Array:
        positions = jnp.arange(queries, dtype=jnp.int32) + self.first_query
        return positions[:, None] >= jnp.arange(keys, dtype=jnp.int32)[None, :]


def masked_unless(allowed: AnyArray) -> jax.Array:
    """Returns 0 where `allowed` and `MASKED` elsewhere, float32."""
    return jnp.where(allowed, jnp.float32(0), jnp.float32(MASKED))
