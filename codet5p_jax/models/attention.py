"""Multi-head attention of T5: scores not scaled, with a bias by relative position."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from codet5p_jax.kernels.attention_mask import AttentionMask
from codet5p_jax.kernels.cudnn_attention import cudnn_attention, cudnn_serves
from codet5p_jax.kernels.fused_attention import fused_attention
from codet5p_jax.kernels.per_device import knows_devices
from codet5p_jax.kernels.platform import platform
from codet5p_jax.kernels.position_bias import PositionBias
from codet5p_jax.kernels.xla_attention import SpreadBias, xla_attention
from codet5p_jax.models.cache import KeysAndValues
from codet5p_jax.models.layers import Linear

# (query, key, value, *, mask, bias) -> attended values, shaped like the query; with dropout also
# keep [batch, heads, keys] and dropout_rate, of keys that all queries of a row drop.
AttentionFunction = Callable[..., jax.Array]


def dot_product_attention(
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys heads head_dim"],
    value: Float[Array, "batch keys heads head_dim"],
    *,
    mask: AttentionMask,
    bias: PositionBias | SpreadBias | None = None,
    keep: Bool[Array, "batch heads keys"] | None = None,
    dropout_rate: float = 0.0,
) -> Float[Array, "batch queries heads head_dim"]:
    """Returns ``softmax(query key^T + bias + mask) drop(value)``, by what is fastest where it runs.

    That is `fused_attention` on TPUs, cuDNN on NVIDIA's GPUs, and plain XLA on CPUs. What these do
    not serve, decoding, and a program for several TPUs without a mesh in force is plain XLA.
    """
    run: AttentionFunction = xla_attention
    if mask.query_offset is None and query.shape[1] > 1:  # else it decodes
        if _prefers_kernel():
            run = functools.partial(fused_attention, fallback=True)
        elif platform() == "gpu" and cudnn_serves(query, key):
            run = cudnn_attention
    return run(query, key, value, mask=mask, bias=bias, keep=keep, dropout_rate=dropout_rate)


def _prefers_kernel() -> bool:
    return platform() == "tpu" and knows_devices()


dot_product_attention.spreads_bias = _prefers_kernel  # type: ignore[attr-defined]


def bias_for(
    attention: AttentionFunction, bias: PositionBias, queries: int, keys: int
) -> PositionBias | SpreadBias:
    """Returns `bias` as an attention function takes it best, once for all layers of a stack.

    That is spread to a matrix, unless the function's `spreads_bias()` says that it needs none; in
    decoding always, since no kernel decodes.
    """
    spreads_bias = getattr(attention, "spreads_bias", lambda: False)
    if bias.query_offset is None and spreads_bias():
        return bias
    return bias.matrix(queries, keys)


def attend(
    attention: AttentionFunction,
    query: Float[Array, "batch queries heads head_dim"],
    attended: KeysAndValues,
    *,
    mask: AttentionMask,
    **fields: Any,
) -> Float[Array, "batch queries heads head_dim"]:
    """Returns what queries gather by `attention`; next to a cache by XLA, since no kernel decodes.

    Args:
        attention: The function.
        query: Queries.
        attended: Keys and values.
        mask: Who sees whom.
        fields: Other arguments of the function.
    """
    run = attention if mask.query_offset is None else xla_attention
    return run(query, attended.keys, attended.values, mask=mask, **fields)


class Attention(nn.Module):
    """Projections to heads, attention, and the projection back; no biases.

    Attributes:
        num_heads: Attention heads.
        head_dim: Width of one head; ``num_heads * head_dim`` is free of the embed width.
        embed_dim: Width of the residual stream.
        dropout_rate: Probability of dropping a key. T5 drops attention probabilities;
            as in T5X the choice is shared by the queries of a row, which is the same as dropping
            the key's value: no mask of the size of the scores exists.
        attention: The attention function.
        dtype: Dtype of the computation.
    """

    num_heads: int
    head_dim: int
    embed_dim: int
    dropout_rate: float
    attention: AttentionFunction = dot_product_attention
    dtype: DTypeLike = jnp.float32

    def setup(self):
        """Creates the parts."""
        joined = self.num_heads * self.head_dim
        into, out_of = ("embed", "joined_kv"), ("joined_kv", "embed")
        scale = self.embed_dim**-0.5
        # T5 puts the 1/sqrt(head_dim) of other models into the initial query projection.
        self.query = Linear(joined, into, stddev=scale * self.head_dim**-0.5, dtype=self.dtype)
        self.key = Linear(joined, into, stddev=scale, dtype=self.dtype)
        self.value = Linear(joined, into, stddev=scale, dtype=self.dtype)
        self.out = Linear(self.embed_dim, out_of, stddev=joined**-0.5, dtype=self.dtype)

    def keys_and_values(self, source: Float[Array, "batch keys embed"]) -> KeysAndValues:
        """Returns the projections of `source` that queries attend to."""
        return KeysAndValues(
            split_heads(self.key(source), self.num_heads),
            split_heads(self.value(source), self.num_heads),
        )

    def __call__(
        self,
        x: Float[Array, "batch queries embed"],
        attended: KeysAndValues,
        *,
        mask: AttentionMask,
        bias: PositionBias | SpreadBias | None,
        keep: Bool[Array, "batch heads keys"] | None = None,
    ) -> Float[Array, "batch queries embed"]:
        """Returns what the queries at `x` gather from `attended`, of the keys to `keep`."""
        query = split_heads(self.query(x), self.num_heads)
        dropped = {} if keep is None else {"keep": keep, "dropout_rate": self.dropout_rate}
        h = attend(self.attention, query, attended, mask=mask, bias=bias, **dropped)
        return self.out(h.reshape(*x.shape[:2], -1))


def split_heads(
    x: Float[Array, "batch length joined_kv"], num_heads: int
) -> Float[Array, "batch length heads head_dim"]:
    """Returns `x` with the heads as an axis of their own."""
    h = x.reshape(*x.shape[:2], num_heads, -1)
    return nn.with_logical_constraint(h, ("batch", "length", "heads", "kv"))
