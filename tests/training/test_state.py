"""Tests of codet5p_jax.training.state: the keys of a run."""

import jax
import jax.numpy as jnp

from codet5p_jax.training.state import Purpose, TrainState, branch


def _numbers(key):
    return tuple(jax.random.key_data(key).tolist())


def _state(step):
    return TrainState(jnp.int32(step), {}, {}, {}, jax.random.key(3))


def test_no_key_serves_two_purposes():
    root = _state(0).rng
    initialization = branch(root, Purpose.INITIALIZATION)
    keys = [root, initialization, *jax.random.split(initialization), _state(0).evaluation_rng()]
    keys += [_state(step).step_rng() for step in range(4)]
    assert len({_numbers(key) for key in keys}) == len(keys)


def test_a_steps_key_depends_on_the_root_and_the_step_alone():
    assert _numbers(_state(2).step_rng()) == _numbers(_state(2).step_rng())
    other = _state(2).replace(rng=jax.random.key(4))
    assert _numbers(_state(2).step_rng()) != _numbers(other.step_rng())


def test_every_evaluation_draws_alike():
    assert _numbers(_state(1).evaluation_rng()) == _numbers(_state(7).evaluation_rng())
