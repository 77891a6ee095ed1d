"""Tests of codet5p_jax.training.loss_guard: the part of a step that decides on the devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.sizes import model_config
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training import step as step_module
from codet5p_jax.training.curriculum import Stream
from codet5p_jax.training.loss_guard import (
    Anomaly,
    Decision,
    Kind,
    LossGuard,
    check_reaction,
    guarded_step,
    roll_back,
    skip,
)
from codet5p_jax.training.state import TrainState
from codet5p_jax.typing import WeightedMean

FIRST_STEP = 3
MODEL = CodeT5p(model_config("codet5p_test"))


RULES = [("frozen/.*", None), (".*", 1.0)]
OPTIMIZER = optax.sgd(1.0, momentum=0.5)


class GivenObjective(Seq2SeqObjective):
    """A loss of the value and with the gradient that the batch says; its state is the loss."""

    def loss(self, params, state, batch, rng, *, train):
        weight = params["trained"]["weight"]
        loss = batch["loss"] + batch["gradient"] * (weight - jax.lax.stop_gradient(weight))
        return WeightedMean(2 * loss, jnp.float32(2.0)), {}, {"queue": batch["loss"]}


def _state():
    params = {"trained": {"weight": jnp.float32(1.0)}, "frozen": {"weight": jnp.float32(2.0)}}
    return TrainState(
        jnp.int32(FIRST_STEP),
        params,
        OPTIMIZER.init({"trained": params["trained"]}),
        {"lm": {"queue": jnp.float32(0.0)}},
        jax.random.key(0),
    )


def _batches(loss, gradient):
    return {"lm": {"loss": jnp.float32(loss), "gradient": jnp.float32(gradient)}}


def _take(losses, *, guard=None, gradients=None, first_step=FIRST_STEP):
    stream = Stream(name="lm", objective=GivenObjective(model=MODEL), dataset=None)
    step = functools.partial(
        step_module.train_step,
        streams=[stream],
        optimizer=OPTIMIZER,
        learning_rate=lambda update: 1.0,
        parameter_rules=RULES,
    )
    state, kinds, metrics = _state(), [], {}
    for loss, gradient in zip(losses, gradients or [0.5] * len(losses), strict=True):
        state, metrics, verdict = guarded_step(
            state,
            _batches(loss, gradient),
            step=step,
            guard=guard or LossGuard(),
            first_step=first_step,
        )
        kinds.append(Kind(int(verdict.kind)))
    return state, metrics, kinds


@pytest.fixture(params=["cpu", "tpu"])
def platform(request, monkeypatch):
    """Each way of leaving an update out."""
    monkeypatch.setattr(step_module, "platform", lambda: request.param)


def test_a_healthy_step_is_as_if_nobody_watched(platform):
    state, metrics, kinds = _take([0.75])
    assert kinds == [Kind.HEALTHY]
    assert float(state.params["trained"]["weight"]) == 0.5  # 1 - the gradient
    assert float(state.objective_state["lm"]["queue"]) == 0.75
    assert float(metrics["lm/loss"].compute()) == 0.75
    assert float(metrics["update_norm"].compute()) == 0.5
    assert float(metrics["skipped_steps"].compute()) == 0.0
    assert int(state.step) == int(state.updates) == FIRST_STEP + 1


@pytest.mark.parametrize(
    "loss, gradient", [(np.nan, 1.0), (np.inf, 1.0), (0.5, np.nan), (0.5, np.inf)]
)
def test_a_step_that_is_no_number_changes_nothing_but_the_step(loss, gradient, platform):
    before = _state()
    state, metrics, kinds = _take([loss], gradients=[gradient])
    assert kinds == [Kind.NON_FINITE]
    for part in ("params", "opt_state", "objective_state"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state, part), getattr(before, part))
    assert int(state.step) == FIRST_STEP + 1 and int(state.updates) == FIRST_STEP
    assert float(metrics["lm/loss"].total) == float(metrics["lm/loss"].weight) == 0.0
    assert float(metrics["skipped_steps"].compute()) == 1.0


def test_a_loss_is_a_spike_beyond_the_factor_and_behind_the_warm_up():
    """Mean 2 and deviation 1 after 1, 3: the limit is 2 + 2 * 1 = 4."""
    guard = LossGuard(spike_factor=2.0, warmup_steps=2)
    assert _take([1.0, 3.0, 3.9], guard=guard)[2][-1] == Kind.HEALTHY
    assert _take([1.0, 3.0, 4.1], guard=guard)[2][-1] == Kind.SPIKE
    assert _take([1.0, 300.0], guard=guard)[2] == [Kind.HEALTHY, Kind.HEALTHY]
    assert _take([1.0, 3.0, 4.1])[2][-1] == Kind.HEALTHY  # the default looks for none


def test_a_spike_counts_neither_as_loss_nor_as_update():
    guard = LossGuard(spike_factor=2.0, warmup_steps=2)
    state, _, _ = _take([1.0, 3.0, 4.1], guard=guard)
    statistics = state.loss_statistics
    assert float(statistics.mean) == 2.0 and float(statistics.variance) == 1.0
    assert int(statistics.count) == 2 and int(statistics.skipped) == 1
    assert float(state.params["trained"]["weight"]) == 1.0 - 0.5 - 0.75  # momentum 1/2


def test_each_phase_has_statistics_of_its_own():
    """Another phase has other streams, whose sum lies elsewhere; steps skipped stay counted."""
    state, _, _ = _take([1.0, np.nan, 9.0], first_step=FIRST_STEP + 2)
    assert float(state.loss_statistics.mean) == 9.0 and int(state.loss_statistics.count) == 1
    assert int(state.loss_statistics.skipped) == 1


def _anomaly(kind, in_row=1):
    return Anomaly(
        step=4, kind=kind, loss=1.0, limit=0.5, gradient_norm=1.0, losses={}, in_row=in_row
    )


def test_reactions_are_chosen_by_kind_and_too_many_stop_whatever_they_say():
    guard = LossGuard(on_non_finite=roll_back, on_spike=skip, max_in_row=2)
    assert guard.react(_anomaly(Kind.NON_FINITE)) == Decision.ROLL_BACK
    assert guard.react(_anomaly(Kind.SPIKE, in_row=2)) == Decision.SKIP
    assert guard.react(_anomaly(Kind.SPIKE, in_row=3)) == Decision.STOP


@pytest.mark.parametrize(
    "values, message",
    [
        ({"spike_factor": 0.0}, r"spike_factor is 0\.0; set SPIKE_FACTOR to .* or to None"),
        ({"max_in_row": -1}, r"max_in_row is -1; set MAX_ANOMALIES_IN_ROW to 0 or more"),
        ({"decay": 1.0}, r"decay is 1\.0 and LossGuard\.warmup_steps 100; they must lie in \[0, 1"),
        ({"warmup_steps": 0}, r"warmup_steps 0; they must lie in \[0, 1\) and be 1 or more"),
    ],
)
def test_values_out_of_range_name_what_to_set(values, message):
    with pytest.raises(ValueError, match=message):
        LossGuard(**values)


def test_the_name_of_a_reaction_is_none():
    with pytest.raises(ValueError, match=r"on_spike is 'skip'; set ON_SPIKE to a function: @loss"):
        check_reaction("on_spike", "skip")
