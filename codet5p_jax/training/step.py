"""One optimizer step, and one evaluation step, as pure functions of (state, batches)."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from codet5p_jax.training.curriculum import Stream
from codet5p_jax.training.parameter_rules import (
    EVERY_PARAMETER,
    ParameterRules,
    merge_params,
    parameter_factors,
)
from codet5p_jax.training.state import TrainState
from codet5p_jax.typing import Batch, Metrics, PyTree, WeightedMean


def train_step(
    state: TrainState,
    batches: Mapping[str, Batch],
    *,
    streams: Sequence[Stream],
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    parameter_rules: ParameterRules = EVERY_PARAMETER,
) -> tuple[TrainState, Metrics]:
    """Returns the state after one update on one batch of each stream, and their metrics.

    Only trainable parameters are differentiated; a frozen one comes out as it went in.

    Args:
        state: State before the update.
        batches: Stream name -> global batch.
        streams: What to learn; the weighted mean losses are summed.
        optimizer: Gradients -> updates, of trainable parameters.
        learning_rate: Step -> learning rate, for the metrics only.
        parameter_rules: What is trained, with which factor on the updates.
    """
    factors = parameter_factors(parameter_rules, state.params)
    trainable, frozen = factors.split(state.params)

    def loss_fn(trainable: PyTree):
        params = merge_params(trainable, frozen)
        losses, objective_state = [], dict(state.objective_state)
        metrics: Metrics = {}
        for index, stream in enumerate(streams):
            rng = jax.random.fold_in(state.step_rng(), index)
            loss, stream_metrics, objective_state[stream.name] = stream.objective.loss(
                params, state.objective_state[stream.name], batches[stream.name], rng, train=True
            )
            losses.append(stream.weight * loss.compute())
            metrics |= _named(stream.name, {"loss": loss, **stream_metrics})
        return sum(losses, jnp.float32(0.0)), (metrics, objective_state)

    grads, (metrics, objective_state) = jax.grad(loss_fn, has_aux=True)(trainable)
    updates, opt_state = optimizer.update(grads, state.opt_state, trainable)
    updates = factors.scale(updates)
    trainable = optax.apply_updates(trainable, updates)
    metrics |= {
        "learning_rate": _scalar(learning_rate(state.step)),
        "gradient_norm": _scalar(optax.tree.norm(grads)),
        "update_norm": _scalar(optax.tree.norm(updates)),
        "parameter_norm": _scalar(optax.tree.norm(trainable)),
    }
    new_state = state.replace(
        step=state.step + 1,
        params=merge_params(trainable, frozen),
        opt_state=opt_state,
        objective_state=objective_state,
    )
    return new_state, metrics


def eval_step(state: TrainState, batch: Batch, *, stream: Stream) -> Metrics:
    """Returns the metrics of one held-out batch of `stream`; nothing in the state moves."""
    rng = state.evaluation_rng()
    loss, metrics, _ = stream.objective.loss(
        state.params, state.objective_state[stream.name], batch, rng, train=False
    )
    return _named(stream.name, {"loss": loss, **metrics})


def _named(stream: str, metrics: Metrics) -> Metrics:
    return {f"{stream}/{name}": value for name, value in metrics.items()}


def _scalar(value: ArrayLike) -> WeightedMean:
    return WeightedMean(jnp.asarray(value, jnp.float32), jnp.float32(1.0))
