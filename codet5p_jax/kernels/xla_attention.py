"""Attention in plain XLA: what any platform computes, and what the kernels are compared with."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from codet5p_jax.kernels.attention_mask import AttentionMask
from codet5p_jax.kernels.dropping import drop_keys
from codet5p_jax.kernels.position_bias import PositionBias

SpreadBias = Float[Array, "1 heads queries keys"]


def xla_attention(
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys heads head_dim"],
    value: Float[Array, "batch keys heads head_dim"],
    *,
    mask: AttentionMask,
    bias: PositionBias | SpreadBias | None = None,
    scale: float | None = None,
    keep: Bool[Array, "batch heads keys"] | None = None,
    dropout_rate: float = 0.0,
) -> Float[Array, "batch queries heads head_dim"]:
    """Returns ``softmax(scale * query key^T + bias + mask) drop(value)``.

    Scores and softmax are float32 whatever the dtype of the inputs. A bias that several calls share
    is best spread once, by `PositionBias.matrix`. Of weights dropped the same for all queries of a
    row, as T5X drops them, the values can be dropped instead.
    """
    shape = query.shape[1], key.shape[1]
    value = drop_keys(value, keep, dropout_rate)
    if scale is not None:
        query = (query * scale).astype(query.dtype)
    query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
    if isinstance(bias, PositionBias):
        bias = bias.matrix(*shape)
    added = jnp.zeros([1, 1, 1, 1], jnp.float32) if bias is None else bias
    return jnp.swapaxes(_attend(query, key, value, added, mask.as_bias(*shape)), 1, 2)


@jax.custom_vjp
def _attend(
    query: Float[Array, "batch heads queries head_dim"],
    key: Float[Array, "batch heads keys head_dim"],
    value: Float[Array, "batch heads keys head_dim"],
    bias: Float[Array, "1 #heads #queries #keys"],
    masked: Float[Array, "#batch 1 #queries #keys"],
) -> Float[Array, "batch heads queries head_dim"]:
    """Attention with heads first, so that no product needs a transposed copy.

    Its own gradient keeps nothing of the size of the scores, except on CPUs: it makes the weights
    again from two numbers per query, and takes sum(weights * d_weights) from the narrow
    sum(out * d_out) instead, the two being equal (FlashAttention, arXiv:2205.14135, appendix B.2).
    """
    return _attend_forward(query, key, value, bias, masked)[0]


def _attend_forward(query, key, value, bias, masked):
    inputs = query, key, bias, masked
    largest, scores = jax.lax.platform_dependent(
        *inputs, tpu=_largest_and_scores_again, default=_largest_and_scores
    )
    weights = jnp.exp(scores - largest)  # not divided by their sum: `out` is, being narrow
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = jax.lax.optimization_barrier(weights.astype(value.dtype))
    out = jnp.einsum("bhqk,bhkd->bhqd", weights, value) / total
    out = out.astype(value.dtype)
    # Only CPUs read the weights; elsewhere the compiler drops them, out of a scan's stacks, too.
    return out, (*inputs, value, out, largest, total, weights)


def _attend_backward(residuals, d_out):
    query, key, bias, masked, value, out, largest, total, kept = residuals
    # The barrier keeps the compiler from finding these scores in the forward pass, where it would
    # then write them, in float32, and the weights, for layers that are unrolled to read back.
    again, d_out = jax.lax.optimization_barrier((query, d_out))
    weights, total = jax.lax.platform_dependent(
        kept, again, key, bias, masked, largest, total, cpu=_kept, default=_weights_again
    )
    # Without the barrier the scores are written, in float32, and both products begin with exp.
    weights = jax.lax.optimization_barrier(weights)
    d_weights = jnp.einsum("bhqd,bhkd->bhqk", d_out, value, preferred_element_type=jnp.float32)
    inner = jnp.sum(d_out.astype(jnp.float32) * out, axis=-1, keepdims=True)
    d_scores = (weights * ((d_weights - inner) / total)).astype(query.dtype)
    d_value = jnp.einsum("bhqk,bhqd->bhkd", weights, (d_out / total).astype(d_out.dtype))
    d_query = jnp.einsum("bhqk,bhkd->bhqd", d_scores, key)
    d_key = jnp.einsum("bhqk,bhqd->bhkd", d_scores, query)
    return d_query, d_key, d_value, _sum_over_rows(d_scores, bias), jnp.zeros_like(masked)


_attend.defvjp(_attend_forward, _attend_backward)


def _kept(weights, query, key, bias, masked, largest, total):
    """Returns weights, and what they are still to be divided by."""
    return weights, total


def _weights_again(weights, query, key, bias, masked, largest, total):
    """Makes them again, divided, so that the backward pass need not round anything else."""
    scores = _scores(query, key, bias, masked)
    # In this order: where all keys are masked, `largest` would swallow the logarithm.
    weights = jnp.exp((scores - largest) - jnp.log(total)).astype(weights.dtype)
    return weights, jnp.ones_like(total)


def _scores(query, key, bias, masked):
    """Returns the scores [batch, heads, queries, keys], float32 whatever the inputs are."""
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    return scores + jnp.broadcast_to(bias + masked, scores.shape)


def _largest_and_scores(query, key, bias, masked):
    """Returns each query's largest score, [batch, heads, queries, 1], and the scores."""
    scores = _scores(query, key, bias, masked)
    return jnp.max(scores, axis=-1, keepdims=True), scores


def _largest_and_scores_again(query, key, bias, masked):
    """Computes the scores once for the largest alone, since TPUs compute faster than they write.

    The first product then ends in the maximum, the second in the weights; no scores are written.
    """
    largest = jnp.max(_scores(query, key, bias, masked), axis=-1, keepdims=True)
    again, largest = jax.lax.optimization_barrier((query, largest))
    return largest, _scores(again, key, bias, masked)


def _sum_over_rows(d_scores, bias):
    """Returns the gradient of `bias`, as a product with ones.

    XLA on CPU runs the plain sum over the leading axis 70 times slower (33 ms of 8 x 1.5 MB on
    one core, against 0.5); elsewhere the two compile alike.
    """
    if bias.size == 1:  # there is none; or one key alone, whose weight no bias changes
        return jnp.zeros_like(bias)
    ones = jnp.ones(d_scores.shape[:1], d_scores.dtype)
    summed = jnp.einsum("b,bhqk->hqk", ones, d_scores, preferred_element_type=jnp.float32)
    return summed[None]
