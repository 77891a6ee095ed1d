"""Tests of codet5p_jax.evaluation.metrics."""

import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.evaluation.metrics import (
    bootstrap_mean,
    matching_accuracy,
    mean_reciprocal_rank,
    token_cross_entropy,
    unigram_cross_entropy,
)


def test_bootstrap_interval_covers_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(0)
    intervals = [bootstrap_mean(rng.exponential(size=80), resamples=300) for _ in range(400)]
    covered = np.mean([interval.low <= 1.0 <= interval.high for interval in intervals])
    # percentile intervals of 80 skewed values cover slightly less; standard error 0.012
    assert 0.89 < covered < 0.98


def test_bootstrap_interval_has_the_width_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(size=2000)
    found = bootstrap_mean(values)
    expected = 2 * 1.96 * values.std() / np.sqrt(2000)
    np.testing.assert_allclose(found.high - found.low, expected, rtol=0.1)  # 1,000 resamples
    assert found.mean == pytest.approx(values.mean()) and found.count == 2000


def test_bootstrap_is_the_same_for_the_same_seed():
    values = np.random.default_rng(0).random(30)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_bootstrap_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_mean(np.zeros(0))


def test_mean_reciprocal_rank_is_given_overall_and_per_language():
    found = mean_reciprocal_rank(np.array([1, 1 / 2, 1 / 4]), ["go", "c", "go"])
    assert {name: estimate.mean for name, estimate in found.items()} == {
        "all": pytest.approx(7 / 12),
        "c": 0.5,
        "go": 0.625,
    }
    assert found["go"].count == 2


def test_cross_entropy_by_hand_ignores_padding():
    logits = jnp.log(jnp.array([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]))
    loss = token_cross_entropy(logits, jnp.array([[1, 0]]), jnp.array([[1, 0]]))
    np.testing.assert_allclose(loss.total, np.log(4), rtol=1e-6)
    assert float(loss.weight) == 1


def test_uniform_logits_and_a_uniform_unigram_agree():
    targets = np.array([[3, 1, 0]], np.int32)
    weights = np.array([[1, 1, 0]], np.int32)
    model = token_cross_entropy(jnp.zeros([1, 3, 8]), jnp.asarray(targets), jnp.asarray(weights))
    nats, tokens = unigram_cross_entropy(np.full(8, -np.log(8)), targets, weights)
    assert tokens == 2
    np.testing.assert_allclose([nats, model.total], 2 * np.log(8), rtol=1e-6)


def test_matching_accuracy_by_hand():
    found = matching_accuracy(
        np.array([0.9, 0.4, 0.8, 0.3]), np.array([0.1, 0.2, 0.9, 0.3]), threshold=0.5
    )
    assert found.positives_accepted == 0.5 and found.negatives_rejected == 0.75
    assert found.accuracy.mean == 0.625 and found.accuracy.count == 4
    assert found.told_apart.mean == (1 + 1 + 0 + 0.5) / 4


def test_a_head_that_always_says_yes_is_right_half_the_time():
    found = matching_accuracy(np.ones(50), np.ones(50), threshold=0.5)
    assert (found.accuracy.low, found.accuracy.mean, found.accuracy.high) == (0.5, 0.5, 0.5)


def test_the_share_of_true_pairs_in_training_is_the_threshold_that_errs_least():
    rng = np.random.default_rng(0)
    evidence = rng.normal(size=(2, 4_000)) + np.array([[1.0], [0.0]])  # of true and of false pairs
    odds = np.exp(evidence - 0.5) * (1 / 2)  # likelihood ratio times the odds of one true in three
    positive, negative = odds / (1 + odds)
    by_threshold = {
        threshold: matching_accuracy(positive, negative, threshold=threshold).accuracy.mean
        for threshold in (0.2, 1 / 3, 0.5, 0.6)
    }
    assert max(by_threshold, key=by_threshold.get) == 1 / 3
