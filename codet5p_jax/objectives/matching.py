"""Rows of text-code matching: which text and code stand beside each other, and where to end."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int


class Negatives(struct.PyTreeNode):
    """One hard negative for each row of a batch.

    Attributes:
        index: Row of the candidate.
        found: False where every candidate shares the row's pair id; that row does not count.
    """

    index: Int[Array, "batch"]
    found: Bool[Array, "batch"]


def draw_negatives(
    rng: jax.Array,
    logits: Float[Array, "batch keys"],
    positives: Bool[Array, "batch keys"],
    unwritten: Bool[Array, "keys"] | None = None,
) -> Negatives:
    """Draws a candidate per row with probability softmax(logits) + 1e-4, never a positive.

    Args:
        rng: Randomness of the draw.
        logits: Contrastive similarities divided by the temperature.
        positives: Candidates that belong to the row; their probability is 0.
        unwritten: Entries of a queue that hold no pair yet; they are no candidates.

    Source: CodeT5+ (arXiv:2305.07922) section 3.2; BLIP (arXiv:2201.12086), hard negatives.
    """
    excluded = positives
    if unwritten is not None:
        logits = jnp.where(unwritten[None], -jnp.inf, logits)
        excluded = positives | unwritten[None]
    weights = jnp.where(excluded, 0.0, jax.nn.softmax(logits, axis=-1) + 1e-4)
    index = jax.random.categorical(rng, jnp.log(weights), axis=-1)
    return Negatives(index=index, found=jnp.any(~excluded, axis=-1))


def replace_first(tokens: Int[Array, "batch length"], token: int) -> Int[Array, "batch length"]:
    """Returns `tokens` with the first position, `<s>`, replaced by a task token."""
    return tokens.at[:, 0].set(token)


def shift_right(tokens: Int[Array, "batch length"], *, first: int) -> Int[Array, "batch length"]:
    """Returns the decoder's input for `tokens` as targets: `first`, the start, and all but one."""
    return jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=first)
