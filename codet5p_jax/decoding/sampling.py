"""Logits -> token: greedy or drawn, after transformations of the logits. All functions are pure."""

import dataclasses
from collections.abc import Callable
from typing import Any, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Logits = Float[Array, "batch vocab"]
Tokens = Int[Array, " batch"]

# (logits, rng) -> tokens. Jitted code is kept per sampler: pass a function or a frozen dataclass.
Sample = Callable[[Any, Any], Any]

EXCLUDED = -jnp.inf  # logit of a token that cannot be drawn


def greedy(logits: Logits, rng: jax.Array) -> Tokens:
    """Returns the likeliest token of each row, the lowest id among equals; `rng` is not used."""
    del rng
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
    """Draws tokens from the softmax of the logits, tempered and then cut to likely tokens.

    The order is that of transformers: temperature, top-k, top-p.

    Attributes:
        temperature: Divisor of the logits, above 0; use `greedy` for 0.
        top_k: Tokens that can be drawn, the likeliest ones; None for all.
        top_p: The smallest set of likeliest tokens whose probabilities sum to at least this can be
            drawn; None for all.

    Raises:
        ValueError: A value out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self):
        if not self.temperature > 0:
            raise ValueError(
                f"temperature is {self.temperature}, expected above 0; for 0 use `greedy`."
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}, expected 1 or more, or None for all tokens.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, expected in (0, 1], or None for all tokens.")

    def __call__(self, logits: Logits, rng: jax.Array) -> Tokens:
        """Returns one drawn token per row."""
        logits = logits / self.temperature
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = keep_top_p(logits, self.top_p)
        return jax.random.categorical(rng, logits, axis=-1).astype(jnp.int32)


def keep_top_k(logits: Logits, k: int) -> Logits:
    """Excludes all but the `k` largest logits of each row; ties with the k-th are kept."""
    kth = jax.lax.top_k(logits, min(k, logits.shape[-1]))[0][:, -1:]
    return jnp.where(logits < kth, EXCLUDED, logits)


def keep_top_p(logits: Logits, p: float) -> Logits:
    """Excludes the tokens outside the nucleus of each row (Holtzman et al. 2020, section 3.1).

    The nucleus is the smallest set of likeliest tokens with probability `p` or more; it holds the
    likeliest token whatever `p`.
    """
    descending = jnp.flip(jnp.sort(logits, axis=-1), axis=-1)
    probabilities = jax.nn.softmax(descending, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities  # mass of likelier tokens
    smallest = jnp.where(before < p, descending, jnp.inf).min(axis=-1, keepdims=True)
    return jnp.where(logits < smallest, EXCLUDED, logits)
