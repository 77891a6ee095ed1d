"""Tests of codet5p_jax.objectives.momentum."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codet5p_jax.objectives.momentum import UNUSED_ID, empty_queue, moving_average


def _queue(rng, size=6):
    return nn.unbox(empty_queue(rng, size=size, dim=3, text_length=2, code_length=4))


def _push(queue, first_id, batch=2):
    ids = jnp.arange(first_id, first_id + batch, dtype=jnp.int32)
    rows = ids.astype(jnp.float32)[:, None]
    return queue.push(
        text_features=jnp.tile(rows, (1, 3)),
        code_features=jnp.tile(-rows, (1, 3)),
        pair_ids=ids,
        text_tokens=jnp.tile(ids[:, None], (1, 2)),
        code_tokens=jnp.tile(ids[:, None], (1, 4)),
    )


def test_an_empty_queue_holds_unit_features_that_belong_to_no_pair(rng):
    queue = _queue(rng)
    np.testing.assert_allclose(jnp.linalg.norm(queue.text_features, axis=-1), 1.0, rtol=1e-6)
    assert set(queue.pair_ids.tolist()) == {UNUSED_ID}


def test_the_oldest_entries_are_written_over(rng):
    queue = _queue(rng)
    for first in (10, 20, 30, 40):
        queue = _push(queue, first)
    assert queue.pair_ids.tolist() == [40, 41, 20, 21, 30, 31]
    assert queue.code_features[:, 0].tolist() == [-40, -41, -20, -21, -30, -31]
    assert queue.code_tokens[:, 3].tolist() == [40, 41, 20, 21, 30, 31]
    assert int(queue.pointer) == 2


def test_a_queue_of_size_zero_stays_as_it_is(rng):
    queue = _queue(rng, size=0)
    assert _push(queue, 10) is queue


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_moving_average_by_hand(momentum):
    average = moving_average({"w": jnp.array([1.0])}, {"w": jnp.array([3.0])}, momentum)
    np.testing.assert_allclose(average["w"], [momentum * 1 + (1 - momentum) * 3], rtol=1e-6)


def test_what_was_never_written_is_known(rng):
    queue = _push(_queue(rng), 10)
    unwritten = queue.is_unwritten(jnp.zeros(2, jnp.int32))
    assert unwritten.tolist() == [False] * 4 + [True] * 4  # the batch, then the queue


@pytest.mark.parametrize(("steps", "age", "share"), [(0, 0.0, 0.0), (1, 1.0, 1 / 3), (9, 2.0, 1.0)])
def test_age_counts_the_steps_since_an_entry_was_written(rng, steps, age, share):
    # three slots of two; full, they were written 1, 2 and 3 steps ago
    measured = _queue(rng).age_and_share(jnp.int32(steps), 2)
    np.testing.assert_allclose([m.compute() for m in measured], [age, share], rtol=1e-6)
