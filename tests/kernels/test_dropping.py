"""Tests of codet5p_jax.kernels.dropping."""

import jax
import jax.numpy as jnp
import numpy as np

from codet5p_jax.kernels.dropping import drop, drop_keys


def test_what_stays_is_scaled_and_its_gradient_too():
    x, keep = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[True, False, True]])
    out, backward = jax.vjp(lambda x: drop(x, keep, 0.2), x)
    np.testing.assert_allclose(out, [[1.25, 0, 3.75]])
    np.testing.assert_allclose(backward(jnp.ones([1, 3]))[0], [[1.25, 0, 1.25]])


def test_without_a_mask_all_stays_as_it_is():
    x = jnp.ones([2, 3])
    assert drop(x, None, 0.5) is x


def test_a_head_drops_the_values_of_its_own_keys():
    keep = jnp.array([[[True, False, True], [True, True, False]]])  # two heads, three keys
    dropped = drop_keys(jnp.ones([1, 3, 2, 4]), keep, 0.5)
    np.testing.assert_array_equal(dropped[0, :, :, 0], [[2, 2], [0, 2], [2, 0]])
