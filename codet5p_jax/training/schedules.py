"""Learning rates over a run: each grows linearly from 0 to a peak first, the warm-up.

A peak below 0, or that is no finite number, is a ValueError: it would maximise the loss.
"""

import math

import jax.numpy as jnp
import optax


def linear(*, peak_learning_rate: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Returns step -> learning rate: after the warm-up linear to 0 at `total_steps`.

    Source: paper section 4.2 (linear decay, peak 2e-4); its warm-up is not published.

    Raises:
        ValueError: The warm-up is negative or longer than the run.
    """
    _check_warmup("linear", warmup_steps, total_steps)
    decay = optax.linear_schedule(peak_learning_rate, 0.0, total_steps - warmup_steps)
    return _warmed_up(decay, peak_learning_rate, warmup_steps)


def cosine(
    *,
    peak_learning_rate: float,
    warmup_steps: int,
    total_steps: int,
    final_share: float = 0.0,
) -> optax.Schedule:
    """Returns step -> learning rate: after the warm-up half a cosine, to 0 at `total_steps`.

    Source: SGDR (arXiv:1608.03983), equation 5, without restarts.

    Args:
        peak_learning_rate: At the end of the warm-up.
        warmup_steps: Steps from 0 to the peak.
        total_steps: Steps of the run.
        final_share: Share of the peak that it ends at.

    Raises:
        ValueError: The warm-up is negative or longer than the run.
    """
    _check_warmup("cosine", warmup_steps, total_steps)
    decay = optax.cosine_decay_schedule(
        peak_learning_rate, total_steps - warmup_steps, alpha=final_share
    )
    return _warmed_up(decay, peak_learning_rate, warmup_steps)


def rsqrt(*, peak_learning_rate: float, warmup_steps: int) -> optax.Schedule:
    """Returns step -> learning rate: after the warm-up peak * sqrt(warmup_steps / step).

    It does not depend on the length of the run. T5's (arXiv:1910.10683, section 3.1.2) is that of
    a peak of 0.01 and 10,000 steps of warm-up, but constant while ours grows.

    Raises:
        ValueError: There is no warm-up, which sets where the decay begins.
    """
    if warmup_steps < 1:
        raise ValueError(
            f"schedules.rsqrt.warmup_steps is {warmup_steps}, but the decay begins at its end; set "
            "WARMUP_STEPS to 1 or more (T5: 10,000)."
        )

    def decay(steps_after_warmup):
        steps = jnp.asarray(steps_after_warmup, jnp.float32) + warmup_steps
        return peak_learning_rate * jnp.sqrt(warmup_steps / steps)

    return _warmed_up(decay, peak_learning_rate, warmup_steps)


def constant(*, peak_learning_rate: float, warmup_steps: int) -> optax.Schedule:
    """Returns step -> learning rate: after the warm-up the peak.

    Raises:
        ValueError: The warm-up is negative.
    """
    if warmup_steps < 0:
        raise ValueError(
            f"schedules.constant.warmup_steps is {warmup_steps}; set WARMUP_STEPS to 0 or more."
        )
    return _warmed_up(optax.constant_schedule(peak_learning_rate), peak_learning_rate, warmup_steps)


def _warmed_up(decay: optax.Schedule, peak: float, warmup_steps: int) -> optax.Schedule:
    if not 0 <= peak < math.inf:
        raise ValueError(
            f"The peak of the learning rate is {peak}; it must be a number of 0 or more. Set "
            "LEARNING_RATE, for example to 2e-4."
        )
    return optax.join_schedules(
        [optax.linear_schedule(0.0, peak, warmup_steps), decay], [warmup_steps]
    )


def _check_warmup(name: str, warmup_steps: int, total_steps: int) -> None:
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"schedules.{name}.warmup_steps is {warmup_steps}, but the run has {total_steps} "
            "steps; set WARMUP_STEPS to less, for example a twentieth."
        )
