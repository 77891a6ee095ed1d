"""Text-to-code retrieval and matching on held-out pairs, with the baselines they must beat."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from codet5p_jax.evaluation.losses import TrainedModel
from codet5p_jax.evaluation.metrics import (
    Estimate,
    matching_accuracy,
    mean_reciprocal_rank,
)
from codet5p_jax.retrieval.bm25 import BM25Index
from codet5p_jax.retrieval.embed import embed_tokens
from codet5p_jax.retrieval.rerank import match_probabilities, reranked_reciprocal_ranks
from codet5p_jax.retrieval.search import (
    random_mean_reciprocal_rank,
    reciprocal_ranks,
    reciprocal_ranks_by_cosine,
    top_k,
)

TRUE_SHARE = (
    1 / 3
)  # of the rows of the matching loss: a pair, (text, wrong code), (wrong text, code)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizedPairs:
    """Held-out pairs as ids; row i of one side belongs to row i of the other.

    Attributes:
        text_tokens: Rows of `<s> ... </s>` and padding.
        code_tokens: Rows of `<s> ... </s>` and padding.
        languages: Language of each pair.
    """

    text_tokens: Int[np.ndarray, "pairs text"]
    code_tokens: Int[np.ndarray, "pairs code"]
    languages: Sequence[str]

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.languages)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedded:
    """Unit-norm embeddings of both sides by one model."""

    texts: Float[np.ndarray, "pairs projection"]
    codes: Float[np.ndarray, "pairs projection"]

    def reciprocal_ranks(self) -> Float[np.ndarray, " pairs"]:
        """Returns 1 / rank of each text's own code among all codes."""
        return reciprocal_ranks_by_cosine(self.texts, self.codes, np.arange(len(self.texts)))


def embed_pairs(trained: TrainedModel, pairs: TokenizedPairs) -> Embedded:
    """Returns the embeddings of both sides of all pairs."""
    texts, codes = (
        embed_tokens(trained.model, trained.params, tokens)
        for tokens in (pairs.text_tokens, pairs.code_tokens)
    )
    return Embedded(texts=texts, codes=codes)


def random_row(languages: Sequence[str]) -> dict[str, Any]:
    """Returns the row of a random order: its exact expectation, so without an interval."""
    mean = random_mean_reciprocal_rank(len(languages))
    counts = {"all": len(languages)} | {name: languages.count(name) for name in set(languages)}
    exact = {
        name: Estimate(mean=mean, low=mean, high=mean, count=count)
        for name, count in sorted(counts.items())
    }
    return _row("random", exact, codes=len(languages))


def bm25_row(
    texts: Sequence[str], codes: Sequence[str], languages: Sequence[str]
) -> dict[str, Any]:
    """Returns the row of BM25 over identifier words."""
    scores = BM25Index.from_documents(codes).scores(texts)
    ranks = reciprocal_ranks(scores, np.arange(len(texts)))
    return _row("bm25", mean_reciprocal_rank(ranks, languages), codes=len(codes))


def embedding_row(
    ranking: str, embedded: Embedded, languages: Sequence[str], *, note: str | None = None
) -> dict[str, Any]:
    """Returns the row of a search by cosine, for the first `len(languages)` texts."""
    ranks = embedded.reciprocal_ranks()[: len(languages)]
    mrr = mean_reciprocal_rank(ranks, languages)
    return _row(ranking, mrr, codes=len(embedded.codes), note=note)


def reranked_row(
    trained: TrainedModel,
    embedded: Embedded,
    pairs: TokenizedPairs,
    *,
    queries: int,
    candidates: int,
    match_id: int,
) -> dict[str, Any]:
    """Returns the row in which the matching head re-orders the nearest codes of each text.

    Args:
        trained: The model, with a matching head.
        embedded: Its embeddings of `pairs`.
        pairs: The held-out pairs.
        queries: Texts to search for, the first ones; the code base stays whole.
        candidates: Nearest codes to re-order per text.
        match_id: Id of `[ENC]`.
    """
    candidates = min(candidates, len(pairs))
    cosines, found = top_k(embedded.texts[:queries], embedded.codes, k=candidates)
    texts = np.repeat(np.arange(len(found)), candidates)
    probabilities = match_probabilities(
        trained.model,
        trained.params,
        pairs.text_tokens[:queries],
        pairs.code_tokens,
        np.stack([texts, found.ravel()], axis=1),
        match_id=match_id,
    )
    ranks = reranked_reciprocal_ranks(
        probabilities.reshape(found.shape),
        cosines,
        found,
        np.arange(len(found)),
        before=embedded.reciprocal_ranks()[:queries],
    )
    mrr = mean_reciprocal_rank(ranks, pairs.languages[:queries])
    note = f"The nearest {candidates} codes, by match probability + cosine."
    return _row("reranked", mrr, codes=len(pairs), note=note)


def matching_rows(
    trained: TrainedModel,
    embedded: Embedded,
    pairs: TokenizedPairs,
    *,
    texts: int,
    match_id: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Returns the accuracy of matching against random and against hard negatives.

    Args:
        trained: The model, with a matching head.
        embedded: Its embeddings of `pairs`.
        pairs: The held-out pairs, at least two.
        texts: Texts to judge, the first ones; each with its own code and with one negative.
        match_id: Id of `[ENC]`.
        seed: Seed of the random negatives.
    """
    texts = min(texts, len(pairs))
    own = np.arange(texts)
    codes = {
        "own": own,
        "random": random_negatives(texts, len(pairs), seed=seed),
        "hard": hard_negatives(embedded, texts),
    }
    probabilities = match_probabilities(
        trained.model,
        trained.params,
        pairs.text_tokens[:texts],
        pairs.code_tokens,
        np.concatenate([np.stack([own, rows], axis=1) for rows in codes.values()]),
        match_id=match_id,
    ).reshape(len(codes), texts)
    positive, *negatives = probabilities
    return [
        {
            "negatives": name,
            **matching_accuracy(positive, negative, threshold=TRUE_SHARE, seed=seed).to_dict(),
        }
        for name, negative in zip(("random", "hard"), negatives, strict=True)
    ]


def random_negatives(texts: int, codes: int, *, seed: int) -> Int[np.ndarray, " texts"]:
    """Returns for each text a code that is not its own, all others equally likely."""
    if codes < 2:
        raise ValueError(f"A negative needs a second code; the code base holds {codes}.")
    shift = np.random.default_rng(seed).integers(1, codes, size=texts)
    return (np.arange(texts) + shift) % codes


def hard_negatives(embedded: Embedded, texts: int) -> Int[np.ndarray, " texts"]:
    """Returns for each text the code nearest by cosine that is not its own."""
    _, nearest = top_k(embedded.texts[:texts], embedded.codes, k=2)
    return np.where(nearest[:, 0] == np.arange(texts), nearest[:, 1], nearest[:, 0])


def _row(
    ranking: str, mrr: dict[str, Estimate], *, codes: int, note: str | None = None
) -> dict[str, Any]:
    return {
        "ranking": ranking,
        "queries": mrr["all"].count,
        "codes": codes,
        "mrr": {name: estimate.to_dict() for name, estimate in mrr.items()},
        "note": note,
    }
