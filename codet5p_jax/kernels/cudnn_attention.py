"""Attention by cuDNN, on NVIDIA's GPUs; faster there than plain XLA (docs/performance.md)."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from codet5p_jax.kernels.attention_mask import AttentionMask
from codet5p_jax.kernels.dropping import drop_keys
from codet5p_jax.kernels.platform import compute_capability
from codet5p_jax.kernels.position_bias import PositionBias
from codet5p_jax.kernels.xla_attention import SpreadBias

DTYPES = (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16))
WIDEST_HEAD = 128  # 256 from Hopper on
AMPERE = 8.0  # compute capability, from which on there is bfloat16


def cudnn_attention(
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys heads head_dim"],
    value: Float[Array, "batch keys heads head_dim"],
    *,
    mask: AttentionMask,
    bias: PositionBias | SpreadBias | None = None,
    scale: float | None = None,
    keep: Bool[Array, "batch heads keys"] | None = None,
    dropout_rate: float = 0.0,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "batch queries heads head_dim"]:
    """Returns ``softmax(scale * query key^T + bias + mask) drop(value)``, through jax.nn.

    cuDNN takes a bias in the dtype of the queries alone: in bfloat16 those from 8 to 16 are off by
    up to 0.03, as in T5X.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        mask: Who sees whom.
        bias: Bias by relative position, spread or not.
        scale: What scores are multiplied with; None: nothing.
        keep: Keys that the queries of a row keep; None: all.
        dropout_rate: Probability of dropping a key.
        implementation: Of jax.nn.dot_product_attention, for a test without a GPU.
    """
    shape = query.shape[1], key.shape[1]
    if isinstance(bias, PositionBias):
        bias = bias.matrix(*shape)
    return jax.nn.dot_product_attention(
        query,
        key,
        drop_keys(value, keep, dropout_rate),
        bias=None if bias is None else bias.astype(query.dtype),
        mask=mask.seen(*shape),
        scale=1.0 if scale is None else scale,
        implementation=implementation,
    )


def cudnn_serves(query: jax.Array, key: jax.Array) -> bool:
    """Returns whether cuDNN computes such attention, and its gradient, on this machine's GPU.

    Args:
        query: Queries, [batch, queries, heads, head_dim].
        key: Keys, [batch, keys, heads, head_dim].
    """
    queries, keys, head_dim = query.shape[1], key.shape[1], query.shape[3]
    return (
        compute_capability() >= AMPERE
        and jnp.dtype(query.dtype) in DTYPES
        and head_dim <= WIDEST_HEAD
        and head_dim % 8 == 0
        and queries % 2 == keys % 2 == 0  # with a bias, which masks become
    )
