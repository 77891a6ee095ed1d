"""Text and code to unit vectors: `model.embed` over padded batches of similar length."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.padding import padded, rounded_up
from codet5p_jax.tokenizer import Tokenizer
from codet5p_jax.typing import PyTree

LENGTH_STEP = 64  # a batch is as long as its longest row, rounded up: few compilations, few pads


def token_rows(
    texts: Sequence[str], tokenizer: Tokenizer, *, length: int
) -> Int[np.ndarray, "rows length"]:
    """Returns `<s> text </s>` per row, cut to `length` with `</s>` kept last, and padding.

    Raises:
        ValueError: `length` has no room for a token between `<s>` and `</s>`.
    """
    if length < 3:
        raise ValueError(
            f"length must be at least 3 to hold <s>, one token and </s>; got {length}."
        )
    rows = [
        [tokenizer.bos_id, *ids[: length - 2], tokenizer.eos_id]
        for ids in tokenizer.encode_batch(texts)
    ]
    return padded(rows, pad_id=tokenizer.pad_id, length=length)


def similar_length_batches(
    tokens: Int[np.ndarray, "rows length"], *, batch_size: int, pad_id: int
) -> Iterator[tuple[Int[np.ndarray, " batch"], int]]:
    """Yields (row numbers, length): all rows once, shortest first, `batch_size` at a time.

    The last batch repeats its last row, so that every batch has the same number of rows; whoever
    writes results by row number writes that row twice, with the same value.
    """
    used = np.maximum(1, np.sum(tokens != pad_id, axis=1))
    order = np.argsort(used, kind="stable")
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        rows = np.pad(rows, (0, batch_size - len(rows)), mode="edge")
        longest = int(used[rows].max())
        yield rows, min(tokens.shape[1], rounded_up(longest, LENGTH_STEP))


def embed_tokens(
    model: CodeT5p,
    params: PyTree,
    tokens: Int[np.ndarray, "rows length"],
    *,
    batch_size: int = 32,
) -> Float[np.ndarray, "rows projection"]:
    """Returns the unit-norm embedding of every row of `tokens`, in order.

    Args:
        model: The model.
        params: Its parameters, without the "params" level.
        tokens: Rows of `<s> ... </s>` and padding.
        batch_size: Rows per forward pass.

    Source: CODET5+ (arXiv:2305.07922), section 3.2: projected encoder state of the first token.
    """
    embeddings: dict[int, np.ndarray] = {}
    pad_id = model.config.pad_id
    for rows, length in similar_length_batches(tokens, batch_size=batch_size, pad_id=pad_id):
        found = np.asarray(_embed(model, params, jnp.asarray(tokens[rows, :length])))
        embeddings.update(zip(rows.tolist(), found, strict=True))
    return np.stack([embeddings[row] for row in range(len(tokens))])


@functools.partial(jax.jit, static_argnames="model")
def _embed(
    model: CodeT5p, params: PyTree, tokens: Int[Array, "batch length"]
) -> Float[Array, "batch projection"]:
    """Projected embedding; of a model without projection the first encoder state itself."""
    if model.config.projection_dim is not None:
        embedded: Any = model.apply({"params": params}, tokens, method="embed")
        return embedded
    encoded: Any = model.apply({"params": params}, tokens, method="encode")
    first = encoded[:, 0]
    return first / jnp.linalg.norm(first, axis=-1, keepdims=True)
