"""Numbers with their uncertainty: losses, mean reciprocal rank, accuracy of matching."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from codet5p_jax.typing import WeightedMean


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over examples with a bootstrap interval.

    Attributes:
        mean: The mean.
        low: Lower end of the 95% interval.
        high: Upper end of the 95% interval.
        count: Examples averaged.
    """

    mean: float
    low: float
    high: float
    count: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return dataclasses.asdict(self)


def bootstrap_mean(
    values: Float[np.ndarray, " examples"],
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Returns the mean of `values` with its percentile bootstrap interval.

    Args:
        values: One number per independent example.
        seed: Seed of the resampling; equal seeds give equal intervals.
        resamples: Resampled means of which the quantiles are taken.
        level: Probability that the interval should cover the true mean.

    Raises:
        ValueError: If `values` is empty.

    Source: Efron 1979, "Bootstrap methods: another look at the jackknife".
    """
    if not len(values):
        raise ValueError("bootstrap_mean needs at least one value; no example was evaluated.")
    draws = np.random.default_rng(seed).integers(len(values), size=[resamples, len(values)])
    means = values[draws].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(mean=float(values.mean()), low=float(low), high=float(high), count=len(values))


def mean_reciprocal_rank(
    reciprocal_ranks: Float[np.ndarray, " queries"], languages: Sequence[str], *, seed: int = 0
) -> dict[str, Estimate]:
    """Returns the MRR with its interval, under "all" and under each language.

    Args:
        reciprocal_ranks: 1 / rank of the right code of each query.
        languages: Language of each query.
        seed: Seed of the bootstrap.
    """
    names = np.array(languages)
    groups = {"all": np.ones(len(names), bool)}
    groups |= {str(name): names == name for name in np.unique(names)}
    return {
        name: bootstrap_mean(reciprocal_ranks[rows], seed=seed) for name, rows in groups.items()
    }


def token_cross_entropy(
    logits: Float[Array, "batch targets vocab"],
    targets: Int[Array, "batch targets"],
    weights: Num[Array, "batch targets"],
) -> WeightedMean:
    """Returns the summed cross entropy in nats and the number of target tokens.

    Args:
        logits: Unnormalised log probabilities.
        targets: Ids to predict.
        weights: 1 where a target counts, 0 at padding.
    """
    logits, weights = logits.astype(jnp.float32), weights.astype(jnp.float32)
    own = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    nats = jax.nn.logsumexp(logits, axis=-1) - own  # no second array of the logits' size
    return WeightedMean(total=jnp.sum(nats * weights), weight=weights.sum())


def unigram_log_probabilities(
    batches: Sequence[Mapping[str, np.ndarray]], *, vocab_size: int
) -> Float[np.ndarray, " vocab"]:
    """Returns the log frequency of every id among training targets, with one added to each count.

    Args:
        batches: Training batches with decoder_target_tokens and decoder_loss_weights.
        vocab_size: Number of ids.
    """
    counts = np.ones(vocab_size)
    for batch in batches:
        counts += np.bincount(
            batch["decoder_target_tokens"].ravel(),
            weights=batch["decoder_loss_weights"].ravel(),
            minlength=vocab_size,
        )
    return np.log(counts / counts.sum())


def unigram_cross_entropy(
    log_probabilities: Float[np.ndarray, " vocab"],
    targets: Int[np.ndarray, "batch targets"],
    weights: Num[np.ndarray, "batch targets"],
) -> tuple[float, float]:
    """Returns (nats, target tokens) of a model that knows token frequencies only."""
    nats = -np.sum(log_probabilities[targets] * weights, dtype=np.float64)
    return float(nats), float(weights.sum())


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchingAccuracy:
    """Accuracy over as many positives as negatives; 0.5 is chance.

    Attributes:
        accuracy: Mean over pairs of (positive accepted + negative rejected) / 2.
        positives_accepted: Share of true pairs with a match probability above the threshold.
        negatives_rejected: Share of false pairs with one not above it.
        told_apart: Share of texts whose own code is the likelier of the two; a tie counts half.
    """

    accuracy: Estimate
    positives_accepted: float
    negatives_rejected: float
    told_apart: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return dataclasses.asdict(self)


def matching_accuracy(
    positive: Float[np.ndarray, " pairs"],
    negative: Float[np.ndarray, " pairs"],
    *,
    threshold: float,
    seed: int = 0,
) -> MatchingAccuracy:
    """Returns how well match probabilities separate true pairs from false ones.

    The bootstrap draws texts, not judgements: the two judgements of a text are not independent.

    Args:
        positive: Match probability of each text with its own code.
        negative: Match probability of the same text with another code.
        threshold: Probability above which a pair is taken for true. Here half the pairs are true;
            a head trained where a share p was is right most often with p as threshold.
        seed: Seed of the bootstrap.
    """
    accepted = (positive > threshold).astype(np.float64)
    rejected = (negative <= threshold).astype(np.float64)
    apart = (positive > negative) + 0.5 * (positive == negative)
    return MatchingAccuracy(
        accuracy=bootstrap_mean((accepted + rejected) / 2, seed=seed),
        positives_accepted=float(accepted.mean()),
        negatives_rejected=float(rejected.mean()),
        told_apart=bootstrap_mean(apart, seed=seed),
    )
