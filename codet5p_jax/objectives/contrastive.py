"""Targets of text-code contrastive learning, and the temperature."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.001, 0.5  # ALBEF clamps the learned temperature to these


def clamp_temperature(temperature: Float[Array, ""]) -> Float[Array, ""]:
    """Returns the temperature within [0.001, 0.5]."""
    return jnp.clip(temperature, MIN_TEMPERATURE, MAX_TEMPERATURE)


def same_pair(ids: Int[Array, "batch"], key_ids: Int[Array, "keys"]) -> Bool[Array, "batch keys"]:
    """Returns where a key is the pair of a query, or a duplicate of it."""
    return ids[:, None] == key_ids[None, :]


def contrastive_targets(
    positives: Bool[Array, "batch keys"],
    momentum_logits: Float[Array, "batch keys"],
    alpha: Float[Array, ""] | float,
) -> Float[Array, "batch keys"]:
    """Probability of each key given a query: what the pairs say, softened by the momentum model.

    alpha * softmax(momentum_logits) + (1 - alpha) * Y, with Y spread evenly over the positives.

    Args:
        positives: Keys with the query's pair id; at least one per row.
        momentum_logits: Similarities of momentum features, divided by the temperature.
        alpha: Share of the momentum model, in [0, 1]; the paper's Eq. 3 has 0.

    Source: ALBEF (arXiv:2107.07651) Eq. 6; CODET5+ (arXiv:2305.07922) Eq. 3.
    """
    hard = positives / jnp.sum(positives, axis=-1, keepdims=True)
    soft = jax.nn.softmax(momentum_logits, axis=-1)
    return alpha * soft + (1.0 - alpha) * hard
