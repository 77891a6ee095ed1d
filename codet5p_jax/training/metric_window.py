"""Means of metrics over a window of steps, fetched from the devices one step late."""

import dataclasses
import time

import jax
import jax.numpy as jnp

from codet5p_jax.training.flops import StepCost
from codet5p_jax.typing import Metrics

NONPADDING = "/nonpadding_tokens"  # share of positions that hold a token; its total counts them


@dataclasses.dataclass(frozen=True)
class WindowMeans:
    """Means over the steps since the last log line."""

    step: int
    metrics: dict[str, float]


class MetricWindow:
    """Sums metrics on the devices, and fetches a window's means one step after its end."""

    def __init__(self, period: int, *, cost: StepCost | None = None) -> None:
        """Makes a window of `period` steps, each of which costs `cost` (None: not told)."""
        self._period = period
        self._cost = cost
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
        return WindowMeans(step, {**means(fetched), **self._timing(fetched, steps, seconds)})

    def _timing(self, fetched: Metrics, steps: int, seconds: float) -> dict[str, float]:
        tokens = sum(float(v.total) for k, v in fetched.items() if k.endswith(NONPADDING))
        rates = {"steps_per_second": steps / seconds, "tokens_per_second": tokens / seconds}
        if self._cost is not None:
            rates |= self._cost.rates(steps / seconds)
        return {f"timing/{name}": value for name, value in rates.items()}


def means(metrics: Metrics) -> dict[str, float]:
    """Returns the mean of each metric; `<stream>/nonpadding_tokens` as `<stream>/padding_share`.

    That is the share of a batch which is computed and thrown away: 1 - nonpadding.
    """
    values: dict[str, float] = {}
    for name, mean in metrics.items():
        if float(mean.weight) == 0:  # nothing was counted: all steps were skipped, for example
            continue
        if name.endswith(NONPADDING):
            values[f"{name.removesuffix(NONPADDING)}/padding_share"] = 1.0 - float(mean.compute())
        else:
            values[name] = float(mean.compute())
    return values


@jax.jit
def sum_metrics(total: Metrics, metrics: Metrics) -> Metrics:
    """Returns both added up, name by name."""
    return jax.tree.map(jnp.add, total, metrics)
