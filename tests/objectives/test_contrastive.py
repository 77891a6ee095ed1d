"""Tests of codet5p_jax.objectives.contrastive."""

import jax.numpy as jnp
import numpy as np

from codet5p_jax.objectives.contrastive import clamp_temperature, contrastive_targets, same_pair


def test_duplicates_of_a_pair_share_the_positive_probability():
    positives = same_pair(jnp.array([7, 8, 7]), jnp.array([7, 8, 7, 7, -100]))
    targets = contrastive_targets(positives, jnp.zeros((3, 5)), 0.0)
    third = 1 / 3
    np.testing.assert_allclose(
        targets,
        [[third, 0, third, third, 0], [0, 1, 0, 0, 0], [third, 0, third, third, 0]],
        rtol=1e-6,
    )


def test_alpha_mixes_in_the_momentum_model():
    positives = jnp.eye(2, dtype=bool)
    logits = jnp.array([[0.0, np.log(3.0)], [0.0, 0.0]])
    targets = contrastive_targets(positives, logits, 0.4)
    np.testing.assert_allclose(targets, [[0.6 + 0.1, 0.3], [0.2, 0.8]], rtol=1e-6)


def test_temperature_stays_within_albefs_bounds():
    clamped = [float(clamp_temperature(jnp.float32(t))) for t in (-1.0, 0.07, 3.0)]
    np.testing.assert_allclose(clamped, [0.001, 0.07, 0.5], rtol=1e-6)
