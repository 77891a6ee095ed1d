"""Means of metrics over a window of steps, fetched from the devices one step late."""

import dataclasses
import time

import jax
import jax.numpy as jnp

from codet5p_jax.typing import Metrics


@dataclasses.dataclass(frozen=True)
class WindowMeans:
    """Means over the steps since the last log line."""

    step: int
    metrics: dict[str, float]


class MetricWindow:
    """Sums metrics on the devices, and fetches a window's means one step after its end."""

    def __init__(self, period: int) -> None:
        self._period = period
        self._sum: Metrics | None = None
        self._steps = 0
        self._ended: tuple[int, int, Metrics] | None = None
        self._start = time.monotonic()

    def add(self, step: int, metrics: Metrics) -> WindowMeans | None:
        """Adds a step; returns the means of the window that ended one step before, if any."""
        finished = self._fetch()
        self._sum = metrics if self._sum is None else sum_metrics(self._sum, metrics)
        self._steps += 1
        if step % self._period == 0:
            self._ended = (step, self._steps, self._sum)
            self._sum, self._steps = None, 0
        self._last_step = step
        return finished

    def close(self) -> WindowMeans | None:
        """Returns what has not been returned yet, waiting for the devices."""
        if self._ended is None and self._sum is not None:
            self._ended = (self._last_step, self._steps, self._sum)
            self._sum, self._steps = None, 0
        return self._fetch()

    def _fetch(self) -> WindowMeans | None:
        if self._ended is None:
            return None
        step, steps, metrics = self._ended
        self._ended = None
        fetched = jax.device_get(metrics)
        seconds = time.monotonic() - self._start
        self._start = time.monotonic()
        tokens = sum(v.total for k, v in fetched.items() if k.endswith("/nonpadding_tokens"))
        values = {name: float(mean.compute()) for name, mean in fetched.items()}
        values["timing/steps_per_second"] = steps / seconds
        values["timing/tokens_per_second"] = float(tokens) / seconds
        return WindowMeans(step, values)


@jax.jit
def sum_metrics(total: Metrics, metrics: Metrics) -> Metrics:
    """Returns both added up, name by name."""
    return jax.tree.map(jnp.add, total, metrics)
