"""Rows of a token embedding as they are allocated."""

from codet5p_jax.models.padding import rounded_up

VOCAB_MULTIPLE = 128  # lanes of a TPU register, and divisible by any usual mesh axis


def padded_rows(vocab_size: int) -> int:
    """Returns `vocab_size` rounded up to a multiple of 128."""
    return rounded_up(vocab_size, VOCAB_MULTIPLE)
