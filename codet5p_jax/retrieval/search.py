"""Exact nearest codes by inner product, and the rank that the right code reaches.

Embeddings are unit vectors, so the inner product is the cosine. Everything is exact: the whole
code base is scored, in blocks, and equal scores are never resolved in anyone's favour.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

MAX_BLOCK_SCORES = 2**25  # scores held at once by `reciprocal_ranks_by_cosine`: 128 MiB


def top_k(
    queries: Float[np.ndarray, "queries dim"],
    codes: Float[np.ndarray, "codes dim"],
    *,
    k: int,
    block_size: int = 8192,
) -> tuple[Float[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]:
    """Returns scores and row numbers of the `k` nearest codes of each query, best first.

    Args:
        queries: Embeddings to search for.
        codes: Embeddings of the code base.
        k: Codes to return per query. Of equal scores the lower row number comes first.
        block_size: Codes scored at once; bounds memory at queries x (block_size + k) floats.

    Raises:
        ValueError: If `k` is not in 1..codes.
    """
    if not 1 <= k <= len(codes):
        raise ValueError(
            f"top_k was asked for k={k} of {len(codes)} codes; k must lie in 1..{len(codes)}. "
            "Lower k or search a larger code base."
        )
    scores = jnp.full([len(queries), k], -jnp.inf, jnp.float32)
    indices = jnp.full([len(queries), k], -1, jnp.int32)
    for first in range(0, len(codes), block_size):
        block = codes[first : first + block_size]
        scores, indices = _merge_block(scores, indices, queries, block, first, k=k)
    return np.asarray(scores), np.asarray(indices)


@functools.partial(jax.jit, static_argnames="k")
def _merge_block(
    scores: Float[Array, "queries k"],
    indices: Int[Array, "queries k"],
    queries: Float[Array, "queries dim"],
    block: Float[Array, "codes dim"],
    first: Int[Array, ""],
    *,
    k: int,
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Keeps the best `k` of those found so far and of a block that starts at row `first`."""
    found = jnp.einsum("qd,cd->qc", queries, block, precision=jax.lax.Precision.HIGHEST)
    rows = jnp.broadcast_to(first + jnp.arange(len(block), dtype=jnp.int32), found.shape)
    # Earlier rows stand first: lax.top_k prefers the lower position among equals.
    best, position = jax.lax.top_k(jnp.concatenate([scores, found], axis=1), k)
    all_rows = jnp.concatenate([indices, rows], axis=1)
    return best, jnp.take_along_axis(all_rows, position, axis=1)


def reciprocal_ranks(
    scores: Float[np.ndarray, "queries codes"],
    positives: Int[np.ndarray, " queries"],
    *,
    tolerance: float = 1e-6,
) -> Float[np.ndarray, " queries"]:
    """Returns 1 / rank of each query's own code, in expectation over the order of ties.

    With g codes above the right one and t codes level with it (itself among them), each of the
    ranks g+1..g+t is equally likely, so the expected reciprocal rank is (H(g+t) - H(g)) / t, H
    being the harmonic numbers. A constant score earns what a random ranking earns, never 1.

    Args:
        scores: Score of every code for every query; higher is nearer.
        positives: Row number of the right code of each query.
        tolerance: Scores that differ by no more are level. Cosines of identical codes differ by
            rounding alone (about 1e-7).

    Raises:
        ValueError: If a positive is no row of the code base.
    """
    codes = scores.shape[1]
    outside = (positives < 0) | (positives >= codes)
    if outside.any():
        raise ValueError(
            f"positives must be row numbers in 0..{codes - 1}; got {positives[outside][0]} for "
            f"query {np.flatnonzero(outside)[0]}. Every query needs its code in the code base."
        )
    own = np.take_along_axis(scores, positives[:, None], axis=1)  # [queries, 1]
    above = np.sum(scores > own + tolerance, axis=1)
    level = np.sum(np.abs(scores - own) <= tolerance, axis=1)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, codes + 1))])
    return (harmonic[above + level] - harmonic[above]) / level


def reciprocal_ranks_by_cosine(
    queries: Float[np.ndarray, "queries dim"],
    codes: Float[np.ndarray, "codes dim"],
    positives: Int[np.ndarray, " queries"],
) -> Float[np.ndarray, " queries"]:
    """Returns `reciprocal_ranks` over the whole code base, a block of queries at a time."""
    block = max(1, MAX_BLOCK_SCORES // len(codes))
    parts = [
        reciprocal_ranks(queries[rows] @ codes.T, positives[rows])
        for rows in (slice(first, first + block) for first in range(0, len(queries), block))
    ]
    return np.concatenate([np.zeros(0), *parts])


def random_mean_reciprocal_rank(codes: int) -> float:
    """Returns the expected MRR of a random ranking of `codes` codes: H(codes) / codes."""
    if codes < 1:
        raise ValueError(f"A code base holds at least one code; got {codes}.")
    return float(np.mean(1.0 / np.arange(1, codes + 1)))
