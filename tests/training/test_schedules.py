"""Tests of codet5p_jax.training.schedules: values by hand."""

import numpy as np
import pytest

from codet5p_jax.training.schedules import constant, cosine, linear, rsqrt

RUN = {"peak_learning_rate": 0.2, "warmup_steps": 4, "total_steps": 12}
OPEN = {"peak_learning_rate": 0.2, "warmup_steps": 4}


@pytest.mark.parametrize(
    "schedule, step_8, step_12",
    [
        (linear(**RUN), 0.1, 0.0),
        (cosine(**RUN), 0.1, 0.0),  # the middle of half a cosine
        (cosine(**RUN, final_share=0.25), 0.125, 0.05),
        (rsqrt(**OPEN), 0.2 * (1 / 2) ** 0.5, 0.2 * (1 / 3) ** 0.5),
        (constant(**OPEN), 0.2, 0.2),
    ],
    ids=["linear", "cosine", "cosine to a quarter", "rsqrt", "constant"],
)
def test_a_schedule_warms_up_to_its_peak_and_then_goes_its_way(schedule, step_8, step_12):
    rates = [float(schedule(step)) for step in (0, 2, 4, 8, 12)]
    np.testing.assert_allclose(rates, [0.0, 0.1, 0.2, step_8, step_12], rtol=1e-6, atol=1e-8)


def test_a_cosine_falls_slowly_at_both_ends():
    schedule = cosine(**RUN)
    rates = [float(schedule(step)) for step in (6, 10)]  # a quarter and three quarters of the way
    np.testing.assert_allclose(rates, [0.1 * (1 + 0.5**0.5), 0.1 * (1 - 0.5**0.5)], rtol=1e-6)


def test_t5s_learning_rate_is_one_over_the_root_of_the_step():
    schedule = rsqrt(peak_learning_rate=0.01, warmup_steps=10_000)
    for step in (10_000, 40_000, 1_000_000):
        np.testing.assert_allclose(float(schedule(step)), step**-0.5, rtol=1e-6)


@pytest.mark.parametrize("schedule", [linear, cosine])
@pytest.mark.parametrize("warmup_steps", [12, -1])
def test_a_warm_up_that_is_no_part_of_the_run_is_refused(schedule, warmup_steps):
    message = rf"schedules\.{schedule.__name__}\.warmup_steps is {warmup_steps}, but the run has 12"
    with pytest.raises(ValueError, match=rf"{message} steps; set WARMUP_STEPS to less"):
        schedule(**{**RUN, "warmup_steps": warmup_steps})


def test_rsqrt_needs_a_warm_up():
    with pytest.raises(ValueError, match=r"schedules\.rsqrt\.warmup_steps is 0.* set WARMUP_STEPS"):
        rsqrt(peak_learning_rate=0.2, warmup_steps=0)


def test_a_negative_warm_up_is_refused():
    with pytest.raises(ValueError, match=r"schedules\.constant\.warmup_steps is -1; set WARMUP_ST"):
        constant(peak_learning_rate=0.2, warmup_steps=-1)


@pytest.mark.parametrize("schedule, run", [(linear, RUN), (rsqrt, OPEN)])
@pytest.mark.parametrize("peak", [-0.1, float("nan"), float("inf")])
def test_a_peak_that_would_not_minimise_is_refused(schedule, run, peak):
    with pytest.raises(ValueError, match=rf"learning rate is {peak}; .* Set LEARNING_RATE"):
        schedule(**{**run, "peak_learning_rate": peak})
