"""Tests of codet5p_jax.objectives.matching."""

import jax
import jax.numpy as jnp
import numpy as np

from codet5p_jax.objectives.matching import draw_negatives, replace_first, shift_right


def test_a_positive_is_never_drawn(rng):
    ids = jnp.array([1, 2, 1, 3])
    positives = ids[:, None] == ids[None, :]
    logits = jnp.where(positives, 50.0, 0.0)  # the similarities favour exactly what is forbidden
    for key in jax.random.split(rng, 200):
        negatives = draw_negatives(key, logits, positives)
        assert not np.any(np.asarray(positives)[np.arange(4), np.asarray(negatives.index)])


def test_negatives_follow_the_similarities(rng):
    logits = jnp.log(jnp.array([[0.5, 0.4, 0.1]]))
    positives = jnp.array([[True, False, False]])
    draws = jax.vmap(lambda key: draw_negatives(key, logits, positives).index[0])(
        jax.random.split(rng, 4_000)
    )
    share = float(jnp.mean(draws == 1))
    expected = 0.4001 / 0.5002
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 4_000)


def test_a_row_whose_candidates_are_all_positive_does_not_count(rng):
    negatives = draw_negatives(rng, jnp.zeros((2, 2)), jnp.ones((2, 2), bool))
    assert not np.any(np.asarray(negatives.found))


def test_decoder_inputs_are_the_start_id_and_the_labels_before():
    labels = replace_first(jnp.array([[1, 5, 6, 2, 0]]), 32101)
    np.testing.assert_array_equal(labels, [[32101, 5, 6, 2, 0]])
    np.testing.assert_array_equal(shift_right(labels, first=0), [[0, 32101, 5, 6, 2]])
