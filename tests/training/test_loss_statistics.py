"""Tests of codet5p_jax.training.loss_statistics."""

import jax.numpy as jnp
import numpy as np

from codet5p_jax.training.loss_statistics import no_losses


def _after(losses, *, decay):
    statistics = no_losses()
    for loss in losses:
        statistics = statistics.add(jnp.float32(loss), decay=decay)
    return statistics


def test_at_first_they_are_the_plain_mean_and_variance():
    losses = [3.0, 1.0, 4.0, 1.5]
    statistics = _after(losses, decay=0.9)
    np.testing.assert_allclose(statistics.mean, np.mean(losses), rtol=1e-6)
    np.testing.assert_allclose(statistics.variance, np.var(losses), rtol=1e-6)


def test_later_the_past_decays():
    """From the third loss on the weight is 1 - decay = 1/2: the mean is 2, then 6; the variance
    half of (0 + 8**2 / 2)."""
    statistics = _after([2.0, 2.0, 10.0], decay=0.5)
    np.testing.assert_allclose(statistics.mean, 6.0)
    np.testing.assert_allclose(statistics.variance, 16.0)


def test_a_restart_forgets_losses_but_not_steps_skipped():
    statistics = _after([2.0, 3.0], decay=0.9).replace(skipped=jnp.int32(5))
    restarted = statistics.restarted(jnp.bool_(True))
    assert (int(restarted.count), float(restarted.mean), int(restarted.skipped)) == (0, 0.0, 5)
    kept = statistics.restarted(jnp.bool_(False))
    assert (int(kept.count), float(kept.mean)) == (2, 2.5)
