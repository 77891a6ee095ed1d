"""Masks of the models' attentions, from tokens and segments."""

import jax.numpy as jnp
from jaxtyping import Int

from codet5p_jax.kernels.attention_mask import AnyArray, AttentionMask, Segments


def encoder_mask(
    tokens: Segments, segments: Segments | None = None, pad_id: int = 0
) -> AttentionMask:
    """Returns the mask of encoder self-attention: all of one's segment, or all but padding."""
    if segments is None:
        return AttentionMask(key_segments=(tokens != pad_id).astype(jnp.int32))
    return AttentionMask(key_segments=segments, query_segments=segments)


def decoder_mask(segments: Segments | None = None) -> AttentionMask:
    """Returns the mask of decoder self-attention: the past of one's segment.

    Without segments padding is not masked: being last in its row, it is in nobody's past, and T5's
    padding is also the decoder's start.
    """
    return AttentionMask(key_segments=segments, query_segments=segments, causal=True)


def cross_mask(
    encoder_tokens: Int[AnyArray, "batch inputs"],
    encoder_segments: Int[AnyArray, "batch inputs"] | None = None,
    decoder_segments: Int[AnyArray, "batch targets"] | None = None,
    pad_id: int = 0,
) -> AttentionMask:
    """Returns the mask from decoder to encoder: within segments where both sides have them."""
    if encoder_segments is None or decoder_segments is None:
        return encoder_mask(encoder_tokens, pad_id=pad_id)
    return AttentionMask(key_segments=encoder_segments, query_segments=decoder_segments)
