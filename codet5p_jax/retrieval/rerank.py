"""Second look at the best candidates: the matching head reads text and code together."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.retrieval.embed import similar_length_batches
from codet5p_jax.retrieval.search import reciprocal_ranks
from codet5p_jax.typing import PyTree


def match_probabilities(
    model: CodeT5p,
    params: PyTree,
    text_tokens: Int[np.ndarray, "texts text"],
    code_tokens: Int[np.ndarray, "codes code"],
    pairs: Int[np.ndarray, "pairs 2"],
    *,
    match_id: int,
    batch_size: int = 32,
) -> Float[np.ndarray, " pairs"]:
    """Returns the probability that the text and the code of each pair belong together.

    The encoder reads each text once, however many codes it is paired with.

    Args:
        model: A model with a matching head.
        params: Its parameters, without the "params" level.
        text_tokens: Rows of `<s> ... </s>` and padding.
        code_tokens: Rows of `<s> ... </s>` and padding; `<s>` is replaced by `match_id`.
        pairs: Row numbers (text, code).
        match_id: Id of `[ENC]`, which asks the decoder to match.
        batch_size: Pairs per forward pass.

    Raises:
        ValueError: If the model has no matching head.

    Source: CODET5+ (arXiv:2305.07922), section 3.2, text-code matching.
    """
    if not model.config.matching_head:
        raise ValueError(
            "This model has no matching head (its config's matching_head is False), so it cannot "
            "re-rank. Give a model that went through stage 2."
        )
    encoded = _encode_all(model, params, text_tokens, batch_size=batch_size)
    asked = code_tokens.copy()
    asked[:, 0] = match_id
    probabilities = np.zeros(len(pairs), np.float32)
    for rows, length in similar_length_batches(
        asked[pairs[:, 1]], batch_size=batch_size, pad_id=model.config.pad_id
    ):
        texts, codes = pairs[rows].T
        probabilities[rows] = _match(
            model, params, encoded[texts], text_tokens[texts], asked[codes, :length]
        )
    return probabilities


def _encode_all(
    model: CodeT5p,
    params: PyTree,
    tokens: Int[np.ndarray, "rows length"],
    *,
    batch_size: int,
) -> Float[np.ndarray, "rows length embed"]:
    """Returns the encoder states of every row."""
    padding = -len(tokens) % batch_size
    padded = np.pad(tokens, ((0, padding), (0, 0)), mode="edge")
    batches = padded.reshape(-1, batch_size, tokens.shape[1])
    encoded = [np.asarray(_encode(model, params, jnp.asarray(batch))) for batch in batches]
    return np.concatenate(encoded)[: len(tokens)]


@functools.partial(jax.jit, static_argnames="model")
def _encode(
    model: CodeT5p, params: PyTree, tokens: Int[Array, "batch length"]
) -> Float[Array, "batch length embed"]:
    encoded: Any = model.apply({"params": params}, tokens, method="encode")
    return encoded


@functools.partial(jax.jit, static_argnames="model")
def _match(
    model: CodeT5p,
    params: PyTree,
    encoded_text: Float[Array, "batch text embed"],
    text_tokens: Int[Array, "batch text"],
    code_tokens: Int[Array, "batch code"],
) -> Float[Array, " batch"]:
    variables = {"params": params}
    logits: Any = model.apply(
        variables, encoded_text, text_tokens, code_tokens, method="match_encoded"
    )
    return jax.nn.softmax(logits, axis=-1)[:, 1]


def rerank(
    match_scores: Float[np.ndarray, "queries candidates"],
    cosines: Float[np.ndarray, "queries candidates"],
    candidates: Int[np.ndarray, "queries candidates"],
) -> tuple[Float[np.ndarray, "queries candidates"], Int[np.ndarray, "queries candidates"]]:
    """Returns scores and row numbers of the candidates, re-ordered best first.

    The score is match probability + cosine, as in the paper's evaluation (appendix D). Equal
    scores keep the order in which the candidates came.
    """
    scores = match_scores + cosines
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, 1), np.take_along_axis(candidates, order, 1)


def reranked_reciprocal_ranks(
    match_scores: Float[np.ndarray, "queries candidates"],
    cosines: Float[np.ndarray, "queries candidates"],
    candidates: Int[np.ndarray, "queries candidates"],
    positives: Int[np.ndarray, " queries"],
    *,
    before: Float[np.ndarray, " queries"],
) -> Float[np.ndarray, " queries"]:
    """Returns 1 / rank of each query's own code after its candidates were re-ordered.

    A code that was no candidate stays behind all of them, at the rank it had.

    Args:
        match_scores: Match probability of each candidate.
        cosines: Cosine of each candidate.
        candidates: Row numbers of the nearest codes by cosine.
        positives: Row number of the right code of each query.
        before: `reciprocal_ranks` by cosine over the whole code base.
    """
    found = candidates == positives[:, None]
    reached = found.any(axis=1)
    within = reciprocal_ranks(match_scores + cosines, found.argmax(axis=1))
    return np.where(reached, within, before)
