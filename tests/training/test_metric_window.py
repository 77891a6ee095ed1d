"""Tests of codet5p_jax.training.metric_window."""

import jax.numpy as jnp
import pytest

from codet5p_jax.training.flops import StepCost
from codet5p_jax.training.metric_window import MetricWindow, means
from codet5p_jax.typing import WeightedMean


def _step(loss, tokens=6):
    return {
        "pairs/loss": WeightedMean(jnp.float32(loss), jnp.float32(1.0)),
        "pairs/nonpadding_tokens": WeightedMean(jnp.float32(tokens), jnp.float32(8.0)),
    }


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr("codet5p_jax.training.metric_window.time", clock)
    return clock


def test_a_window_is_returned_one_step_after_its_end():
    window = MetricWindow(2)
    assert window.add(1, _step(1.0)) is None
    assert window.add(2, _step(4.0)) is None
    finished = window.add(3, _step(9.0))
    assert finished.step == 2
    assert finished.metrics["pairs/loss"] == 2.5
    rest = window.close()
    assert (rest.step, rest.metrics["pairs/loss"]) == (3, 9.0)
    assert window.close() is None


def test_rates_are_those_of_the_window(clock):
    window = MetricWindow(2, cost=StepCost(flops=10e12, peak_flops_per_second=50e12))
    window.add(1, _step(1.0, tokens=6))
    window.add(2, _step(1.0, tokens=4))
    clock.now += 8.0
    metrics = window.close().metrics
    timing = {name: value for name, value in metrics.items() if name.startswith("timing/")}
    assert timing == {
        "timing/steps_per_second": 0.25,
        "timing/tokens_per_second": 10 / 8.0,
        "timing/model_flops_per_second": 2.5e12,
        "timing/mfu": pytest.approx(0.05),
    }


def test_padding_is_what_the_tokens_leave():
    values = means(_step(1.0, tokens=6))
    assert values == {"pairs/loss": 1.0, "pairs/padding_share": 0.25}
