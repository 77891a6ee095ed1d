"""Pure losses: arrays in, WeightedMean out. No state, no randomness."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from codet5p_jax.objectives.accumulation import sum_over_chunks
from codet5p_jax.typing import PyTree, WeightedMean


class TokenLoss(struct.PyTreeNode):
    """Losses of the target tokens of a batch, each summed with the same weight.

    Attributes:
        loss: What is minimised, in nats: cross-entropy, label smoothing and z-loss.
        cross_entropy: Plain cross-entropy in nats.
        accuracy: Share of targets that are the most probable token.
    """

    loss: WeightedMean
    cross_entropy: WeightedMean
    accuracy: WeightedMean

    def __add__(self, other: "TokenLoss") -> "TokenLoss":
        return TokenLoss(
            self.loss + other.loss,
            self.cross_entropy + other.cross_entropy,
            self.accuracy + other.accuracy,
        )

    def total_and_sums(self) -> tuple[Any, "TokenLoss"]:
        """Returns the sum that has a gradient and all sums, as `sum_over_chunks` asks for."""
        return self.loss.total, self

    def with_total(self, total: Float[Array, ""]) -> "TokenLoss":
        """Returns these sums with `total`, which has a gradient, as that of the loss."""
        return self.replace(loss=self.loss.replace(total=total))


def token_cross_entropy(
    logits: Float[Array, "*batch vocab"],
    targets: Int[Array, "*batch"],
    weights: Float[Array, "*batch"],
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    vocab_size: int | None = None,
) -> TokenLoss:
    """Cross-entropy of target tokens, without a one-hot array and without a scatter.

    Args:
        logits: Scores before the softmax; columns from `vocab_size` on are padding.
        targets: Token ids.
        weights: 0 leaves a target out.
        label_smoothing: Share of probability spread evenly over the vocabulary.
        z_loss: Weight of logsumexp(logits)**2, which keeps logits from drifting.
        vocab_size: Number of real columns; None means all.
    """
    log_normalizer, at_target, largest = _normalizer_and_target(logits, targets)
    nats = log_normalizer - at_target
    loss = nats + z_loss * log_normalizer**2
    if label_smoothing:
        real = vocab_size or logits.shape[-1]
        mean_logit = jnp.sum(jnp.where(_columns(logits) < real, logits, 0.0), axis=-1) / real
        loss += label_smoothing * (at_target - mean_logit)
    correct = (largest == at_target).astype(weights.dtype)

    def mean(values: Float[Array, "*batch"]) -> WeightedMean:
        return WeightedMean(jnp.sum(values * weights), jnp.sum(weights))

    return TokenLoss(loss=mean(loss), cross_entropy=mean(nats), accuracy=mean(correct))


@jax.custom_vjp
def _normalizer_and_target(
    logits: Float[Array, "*batch vocab"], targets: Int[Array, "*batch"]
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Returns logsumexp(logits), the logits at the targets, and the largest (no gradient).

    Its own gradient keeps no array of the size of the logits but the logits themselves, and
    writes one, in one pass.
    """
    return _normalizer_and_target_forward(logits, targets)[0]


def _normalizer_and_target_forward(logits, targets):
    largest = jnp.max(logits, axis=-1)
    log_normalizer = largest + jnp.log(jnp.sum(jnp.exp(logits - largest[..., None]), axis=-1))
    at_target = jax.lax.platform_dependent(
        logits, targets, cpu=_take_target, default=_sum_where_target
    )
    return (log_normalizer, at_target, largest), (logits, targets, log_normalizer)


def _take_target(logits, targets):
    return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


def _sum_where_target(logits, targets):  # of logits that are split along the vocabulary, too
    return jnp.sum(jnp.where(_is_target(logits, targets), logits, 0.0), axis=-1)


def _normalizer_and_target_backward(residuals, cotangents):
    logits, targets, log_normalizer = residuals
    d_normalizer, d_target, _ = cotangents
    probabilities = jnp.exp(logits - log_normalizer[..., None])
    d_logits = d_normalizer[..., None] * probabilities
    return d_logits + jnp.where(_is_target(logits, targets), d_target[..., None], 0.0), None


_normalizer_and_target.defvjp(_normalizer_and_target_forward, _normalizer_and_target_backward)


def _is_target(logits, targets):
    return _columns(logits) == targets[..., None]


def _columns(logits):
    return jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)


def chunked_token_cross_entropy(
    logits_fn: Callable[[PyTree, Float[Array, "batch chunk embed"]], Array],
    params: PyTree,
    hidden: Float[Array, "batch targets embed"],
    targets: Int[Array, "batch targets"],
    weights: Float[Array, "batch targets"],
    *,
    chunk_length: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    vocab_size: int | None = None,
) -> TokenLoss:
    """`token_cross_entropy` of `logits_fn(params, hidden)`, a chunk of positions at a time.

    With a chunk length at most [batch, chunk, vocab] logits exist at once; their gradient is
    taken as soon as they are there, so no logits are kept for the backward pass or computed anew.

    Args:
        logits_fn: Parameters and decoder output -> scores over the vocabulary [..., vocab]. It
            closes over nothing that is differentiated.
        params: Those that the logits depend on, and no others.
        hidden: Output of the decoder.
        targets: Token ids.
        weights: 0 leaves a target out.
        chunk_length: Positions at a time; None takes the whole length at once.
        label_smoothing: See `token_cross_entropy`.
        z_loss: See `token_cross_entropy`.
        vocab_size: See `token_cross_entropy`.
    """
    loss_of_logits = functools.partial(
        token_cross_entropy, label_smoothing=label_smoothing, z_loss=z_loss, vocab_size=vocab_size
    )
    length = targets.shape[1]
    if chunk_length is None or chunk_length >= length:
        return loss_of_logits(logits_fn(params, hidden), targets, weights)

    def chunks(x: Array) -> Array:  # [batch, targets, ...] -> [chunks, batch, chunk, ...]
        x = jnp.pad(x, [(0, 0), (0, -length % chunk_length)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk_length, *x.shape[2:]), 1, 0)

    def chunk_loss(params: PyTree, hidden: Array, data: PyTree) -> tuple[Any, TokenLoss]:
        return loss_of_logits(logits_fn(params, hidden), *data).total_and_sums()

    total, sums = sum_over_chunks(
        [chunk_loss], params, chunks(hidden), (chunks(targets), chunks(weights))
    )
    return sums.with_total(total)


def contrastive_loss(
    queries: Float[Array, "batch dim"],
    keys: Float[Array, "keys dim"],
    targets: Float[Array, "batch keys"],
    temperature: Float[Array, ""],
) -> WeightedMean:
    """InfoNCE with soft targets: each query against this batch's keys and the queue.

    Args:
        queries: L2-normalized embeddings of one modality, from the trained encoder.
        keys: L2-normalized embeddings of the other modality, from the momentum encoder:
            first this batch, row i the positive of query i, then the queue.
        targets: Probability of each key given the query. Rows sum to 1.
        temperature: Positive divisor of the cosine similarities.

    Returns:
        Cross-entropy in nats, summed over queries, with weight `batch`.

    Source: CodeT5+ (arXiv:2305.07922) Eq. 3; ALBEF (arXiv:2107.07651) Eq. 6.
    """
    logits = jnp.einsum("bd,kd->bk", queries, keys) / temperature
    nats = -jnp.sum(targets * jax.nn.log_softmax(logits, axis=-1), axis=-1)  # [batch]
    return WeightedMean(total=nats.sum(), weight=jnp.float32(nats.size))


def matching_loss(
    logits: Float[Array, "batch 2"],
    labels: Int[Array, "batch"],
    weights: Float[Array, "batch"],
) -> TokenLoss:
    """Binary cross-entropy of the matching head, in nats, and its accuracy.

    Args:
        logits: Scores of (no match, match).
        labels: 1 where text and code belong together.
        weights: 0 leaves a row out.

    Source: CodeT5+ (arXiv:2305.07922) section 3.2, text-code matching.
    """
    return token_cross_entropy(logits, labels, weights)
