"""Multi-head attention of T5: scores in float32, not scaled, with an additive bias."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from codet5p_jax.models.layers import Linear
from codet5p_jax.models.masks import AttentionMask

# (query, key, value, *, mask, bias) -> attended values, shaped like the query.
AttentionFunction = Callable[..., jax.Array]


def dot_product_attention(
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys heads head_dim"],
    value: Float[Array, "batch keys heads head_dim"],
    *,
    mask: AttentionMask,
    bias: Float[Array, "1 heads queries keys"] | None = None,
) -> Float[Array, "batch queries heads head_dim"]:
    """Returns ``softmax(query key^T + bias + mask) value`` in plain XLA.

    Scores and softmax are float32 whatever the dtype of the inputs.
    """
    batch, heads = query.shape[0], query.shape[2]
    offset = mask.as_bias(query.shape[1], key.shape[1])
    if bias is not None:
        offset = offset + _for_each_row(bias, batch)
    offset = jnp.broadcast_to(offset, [batch, heads, query.shape[1], key.shape[1]])
    query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
    return jnp.swapaxes(_attend(query, key, value, offset), 1, 2)


@jax.custom_vjp
def _attend(
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    offset: Float[Array, "batch heads queries keys"],
) -> Float[Array, "batch heads queries head_dim"]:
    """Attention with heads first, so that no product needs a transposed copy.

    Its own gradient saves passes over arrays of the size of the scores: it keeps the weights
    alone, and takes sum(weights * d_weights) from the narrow sum(out * d_out) instead, the two
    being equal (FlashAttention, arXiv:2205.14135, appendix B.2). A sixth of a layer on CPU.
    """
    return _attend_forward(query, key, value, offset)[0]


def _attend_forward(query, key, value, offset):
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    weights = nn.softmax(scores + offset).astype(value.dtype)
    out = jnp.einsum("bhqk,bhkd->bhqd", weights, value)
    return out, (query, key, value, weights, out)


def _attend_backward(residuals, d_out):
    query, key, value, weights, out = residuals
    d_value = jnp.einsum("bhqk,bhqd->bhkd", weights, d_out)
    d_weights = jnp.einsum("bhqd,bhkd->bhqk", d_out, value, preferred_element_type=jnp.float32)
    inner = jnp.sum(d_out.astype(jnp.float32) * out, axis=-1, keepdims=True)
    d_offset = weights * (d_weights - inner)  # float32, as the scores
    d_scores = d_offset.astype(query.dtype)
    d_query = jnp.einsum("bhqk,bhkd->bhqd", d_scores, key)
    d_key = jnp.einsum("bhqk,bhqd->bhkd", d_scores, query)
    return d_query, d_key, d_value, d_offset


_attend.defvjp(_attend_forward, _attend_backward)


def _for_each_row(
    bias: Float[Array, "1 heads queries keys"], batch: int
) -> Float[Array, "batch heads queries keys"]:
    """Returns `bias` broadcast along the batch, such that its gradient is a product with ones.

    The plain broadcast's gradient is a sum over the leading axis, which XLA on CPU runs 70 times
    slower (33 ms of 8 x 1.5 MB on one core, against 0.5); elsewhere the two compile alike.
    """
    return jnp.einsum("b,hqk->bhqk", jnp.ones([batch], bias.dtype), bias[0])


class KeysAndValues(struct.PyTreeNode):
    """What queries attend to, projected and split into heads.

    Attributes:
        keys: [batch, keys, heads, head_dim].
        values: [batch, keys, heads, head_dim].
    """

    keys: jax.Array
    values: jax.Array


class Attention(nn.Module):
    """Projections to heads, attention, and the projection back; no biases.

    Attributes:
        num_heads: Attention heads.
        head_dim: Width of one head; ``num_heads * head_dim`` is free of the embed width.
        embed_dim: Width of the residual stream.
        dropout_rate: Probability of dropping a key. T5 drops attention probabilities; as in
            T5X the choice is shared by the queries of a row, which is the same as dropping
            the key's value: no mask of the size of the scores exists, and any attention
            function, fused or not, serves training.
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
        self.dropout = nn.Dropout(self.dropout_rate, broadcast_dims=(-1,))

    def keys_and_values(self, source: Float[Array, "batch keys embed"]) -> KeysAndValues:
        """Returns the projections of `source` that queries attend to."""
        return KeysAndValues(
            self._split_heads(self.key(source)), self._split_heads(self.value(source))
        )

    def __call__(
        self,
        x: Float[Array, "batch queries embed"],
        attended: KeysAndValues,
        *,
        mask: AttentionMask,
        bias: Float[Array, "1 heads queries keys"] | None,
        train: bool,
    ) -> Float[Array, "batch queries embed"]:
        """Returns what the queries at `x` gather from `attended`."""
        query = self._split_heads(self.query(x))
        values = self.dropout(attended.values, deterministic=not train)
        h = self.attention(query, attended.keys, values, mask=mask, bias=bias)
        return self.out(h.reshape(*x.shape[:2], -1))

    def _split_heads(
        self, x: Float[Array, "batch length joined_kv"]
    ) -> Float[Array, "batch length heads head_dim"]:
        h = x.reshape(*x.shape[:2], self.num_heads, self.head_dim)
        return nn.with_logical_constraint(h, ("batch", "length", "heads", "kv"))
