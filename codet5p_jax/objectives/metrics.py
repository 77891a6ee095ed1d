"""Metrics that several objectives report."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from codet5p_jax.typing import WeightedMean


def nonpadding_share(*tokens: Int[Array, "batch _"], pad_id: int) -> WeightedMean:
    """Returns the share of positions that hold a token; its total counts the tokens."""
    return WeightedMean(
        total=sum((jnp.sum(t != pad_id) for t in tokens), jnp.int32(0)).astype(jnp.float32),
        weight=jnp.float32(sum(t.size for t in tokens)),
    )
