"""Watches the loss: a step that went wrong changes nothing, and the run reacts as it was told.

Whether a step went wrong is decided on the devices, inside the step; the host reads it one step
late, so that it waits for nothing. See anomalies.py for what the host does then.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from codet5p_jax.training.loss_statistics import LossStatistics
from codet5p_jax.training.state import TrainState
from codet5p_jax.training.step import choose
from codet5p_jax.typing import Batch, Leaf, Metrics, WeightedMean

TrainStep = Callable[..., tuple[TrainState, Metrics]]  # train_step, but for its `accept`


class Kind(enum.IntEnum):
    """What a step was."""

    HEALTHY = 0
    NON_FINITE = 1
    SPIKE = 2


class Verdict(struct.PyTreeNode):
    """What the guard found in one step; all scalars on the devices.

    Attributes:
        kind: A `Kind`, int32 [].
        loss: What the step minimises, nats.
        limit: Loss above which it is a spike; infinite where spikes are not looked for.
        gradient_norm: Before any clip.
        losses: Stream name + "/loss" -> mean loss.
    """

    kind: Leaf
    loss: Leaf
    limit: Leaf
    gradient_norm: Leaf
    losses: dict[str, Leaf]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anomaly:
    """A step that went wrong, as the host sees it.

    Attributes:
        step: Number of the update, from 1.
        kind: NON_FINITE or SPIKE.
        loss: What the step minimises, nats.
        limit: Loss above which it is a spike.
        gradient_norm: Before any clip.
        losses: Stream name + "/loss" -> mean loss.
        in_row: How many there were without progress between them, this one included.
    """

    step: int
    kind: Kind
    loss: float
    limit: float
    gradient_norm: float
    losses: Mapping[str, float]
    in_row: int


class Decision(enum.Enum):
    """What a run does about an anomaly."""

    SKIP = "skip"
    ROLL_BACK = "roll back"
    STOP = "stop"


Reaction = Callable[[Anomaly], Decision]  # chosen in gin; any function of this kind will do


def skip(anomaly: Anomaly) -> Decision:
    """Goes on with the next batch: the step has changed nothing."""
    return Decision.SKIP


def roll_back(anomaly: Anomaly) -> Decision:
    """Goes back to the newest checkpoint, and on with the batches that come next."""
    return Decision.ROLL_BACK


def stop(anomaly: Anomaly) -> Decision:
    """Stops the run with an error."""
    return Decision.STOP


def check_reaction(name: str, reaction: Any) -> None:
    """Raises ValueError where gin gave a name instead of a function."""
    if not callable(reaction):
        raise ValueError(
            f"LossGuard.{name} is {reaction!r}; set {name.upper()} to a function: "
            "@loss_guard.skip, @loss_guard.roll_back or @loss_guard.stop."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossGuard:
    """What counts as wrong, and what to do about it.

    Attributes:
        on_non_finite: Reaction to a loss or gradient norm that is NaN or infinite.
        on_spike: Reaction to a loss far above the last ones.
        spike_factor: How far, in standard deviations of the running mean; None looks for none.
        decay: Weight of the past in mean and deviation, per step.
        warmup_steps: Healthy steps of a phase before spikes are looked for.
        max_in_row: Anomalies without progress between them that a run bears; one more stops it.
    """

    on_non_finite: Reaction = stop
    on_spike: Reaction = skip
    spike_factor: float | None = None
    decay: float = 0.99
    warmup_steps: int = 100
    max_in_row: int = 10

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range, naming the parameter."""
        check_reaction("on_non_finite", self.on_non_finite)
        check_reaction("on_spike", self.on_spike)
        if self.spike_factor is not None and not self.spike_factor > 0:
            raise ValueError(
                f"LossGuard.spike_factor is {self.spike_factor}; set SPIKE_FACTOR to standard "
                "deviations above the mean, for example 6.0, or to None."
            )
        if self.max_in_row < 0:
            raise ValueError(
                f"LossGuard.max_in_row is {self.max_in_row}; set MAX_ANOMALIES_IN_ROW to 0 or more."
            )
        if not 0.0 <= self.decay < 1.0 or self.warmup_steps < 1:
            raise ValueError(
                f"LossGuard.decay is {self.decay} and LossGuard.warmup_steps {self.warmup_steps}; "
                "they must lie in [0, 1) and be 1 or more."
            )

    def judge(self, statistics: LossStatistics, metrics: Metrics) -> Verdict:
        """Returns the verdict on a step; `statistics` are those before it."""
        loss, norm = metrics["loss"].compute(), metrics["gradient_norm"].compute()
        limit = self._limit(statistics)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        kind = jnp.where(finite, jnp.where(loss > limit, Kind.SPIKE, Kind.HEALTHY), Kind.NON_FINITE)
        losses = {k: v.compute() for k, v in metrics.items() if k.endswith("/loss")}
        return Verdict(kind.astype(jnp.int32), loss, limit, norm, losses)

    def _limit(self, statistics: LossStatistics) -> jax.Array:
        if self.spike_factor is None:
            return jnp.float32(jnp.inf)
        limit = statistics.mean + self.spike_factor * jnp.sqrt(statistics.variance)
        return jnp.where(statistics.count < self.warmup_steps, jnp.inf, limit)

    def react(self, anomaly: Anomaly) -> Decision:
        """Returns what to do; too many in a row stop the run whatever the reaction."""
        if anomaly.in_row > self.max_in_row:
            return Decision.STOP
        reaction = self.on_non_finite if anomaly.kind == Kind.NON_FINITE else self.on_spike
        return reaction(anomaly)


STOP_ON_NON_FINITE = LossGuard()  # what a run does unless it is told otherwise


def guarded_step(
    state: TrainState,
    batches: Mapping[str, Batch],
    *,
    step: TrainStep,
    guard: LossGuard,
    first_step: int,
) -> tuple[TrainState, Metrics, Verdict]:
    """Returns the state after `step`, its metrics and the verdict on it.

    After an anomaly the state is the old one but for its step, and metrics have weight 0, all but
    the norms of the parameters.

    Args:
        state: State before the update.
        batches: Stream name -> global batch.
        step: `train_step` with all arguments but `accept`.
        guard: What counts as wrong.
        first_step: Step that the phase begins at, where the statistics of the loss do, too.
    """
    statistics = state.loss_statistics.restarted(state.step == first_step)

    def accept(metrics: Metrics) -> jax.Array:
        return guard.judge(statistics, metrics).kind == Kind.HEALTHY

    new, metrics = step(state, batches, accept=accept)
    verdict = guard.judge(statistics, metrics)
    healthy = verdict.kind == Kind.HEALTHY
    after = choose(
        healthy,
        statistics.add(verdict.loss, decay=guard.decay),
        statistics.replace(skipped=statistics.skipped + 1),
    )
    chosen = new.replace(
        objective_state=choose(healthy, new.objective_state, state.objective_state),
        loss_statistics=after,
    )
    return chosen, _weighed(metrics, healthy), verdict


def _weighed(metrics: Metrics, healthy: jax.Array) -> Metrics:
    """Returns metrics that count only where healthy, so that means over steps stay numbers.

    The norms of the parameters always count: they are there whatever the step was, and a run must
    see it when they are no numbers.
    """
    counted = jax.tree.map(lambda leaf: jnp.where(healthy, leaf, jnp.zeros_like(leaf)), metrics)
    norms = {k: v for k, v in metrics.items() if k.partition("/")[0] == "parameter_norm"}
    skipped = WeightedMean(1.0 - healthy.astype(jnp.float32), jnp.float32(1.0))
    return {**counted, **norms, "skipped_steps": skipped}
