"""One optimizer step, and one evaluation step, as pure functions of (state, batches)."""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.typing import ArrayLike

from codet5p_jax.kernels.platform import platform
from codet5p_jax.training.curriculum import Stream
from codet5p_jax.training.parameter_rules import (
    EVERY_PARAMETER,
    ParameterRules,
    merge_params,
    parameter_factors,
)
from codet5p_jax.training.state import TrainState
from codet5p_jax.typing import Batch, Metrics, PyTree, WeightedMean

Update = Callable[[PyTree, optax.OptState], tuple[PyTree, optax.OptState, Metrics]]
Box = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]  # of parameters and objectives' states


def as_they_are(params: PyTree, objective_state: PyTree) -> tuple[PyTree, PyTree]:
    """Returns both: every device holds all of each parameter, or the compiler gathers them."""
    return params, objective_state


def train_step(
    state: TrainState,
    batches: Mapping[str, Batch],
    *,
    streams: Sequence[Stream],
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    parameter_rules: ParameterRules = EVERY_PARAMETER,
    accept: Callable[[Metrics], jax.Array] | None = None,
    box: Box = as_they_are,
) -> tuple[TrainState, Metrics]:
    """Returns the state after one update on one batch of each stream, and their metrics.

    Only trainable parameters are differentiated; a frozen one comes out as it went in.

    Args:
        state: State before the update.
        batches: Stream name -> global batch.
        streams: What to learn; the weighted mean losses are summed.
        optimizer: Gradients -> updates, of trainable parameters.
        learning_rate: Update -> learning rate, for the metrics only.
        parameter_rules: What is trained, with which factor on the updates.
        accept: Losses and gradient norms -> bool [], whether the optimizer shall run; where not,
            parameters and its state stay as they are. None always runs it.
        box: Marks what lies in parts on the devices of the rows, for the objectives to gather.
    """
    factors = parameter_factors(parameter_rules, state.params)
    trainable, frozen = factors.split(state.params)

    def loss_fn(trainable: PyTree):
        params, held = box(merge_params(trainable, frozen), state.objective_state)
        losses, objective_state = [], dict(held)
        metrics: Metrics = {}
        for index, stream in enumerate(streams):
            rng = jax.random.fold_in(state.step_rng(), index)
            loss, stream_metrics, objective_state[stream.name] = stream.objective.loss(
                params, held[stream.name], batches[stream.name], rng, train=True
            )
            losses.append(stream.weight * loss.compute())
            metrics |= _named(stream.name, {"loss": loss, **stream_metrics})
        total = sum(losses, jnp.float32(0.0))
        return total, (metrics | {"loss": _scalar(total)}, nn.unbox(objective_state))

    grads, (metrics, objective_state) = jax.grad(loss_fn, has_aux=True)(trainable)
    metrics |= _norms("gradient_norm", grads)

    def update(trainable: PyTree, opt_state: optax.OptState):
        updates, opt_state = optimizer.update(grads, opt_state, trainable)
        updates = factors.scale(updates)
        return optax.apply_updates(trainable, updates), opt_state, _norms("update_norm", updates)

    def leave(trainable: PyTree, opt_state: optax.OptState):
        return trainable, opt_state, _norms("update_norm", jax.tree.map(jnp.zeros_like, grads))

    run = update if accept is None else _only_if(accept(metrics), update, leave)
    trainable, opt_state, update_norms = run(trainable, state.opt_state)
    metrics |= {"learning_rate": _scalar(learning_rate(state.updates))}
    metrics |= update_norms | _norms("parameter_norm", trainable)
    new_state = state.replace(
        step=state.step + 1,
        params=merge_params(trainable, frozen),
        opt_state=opt_state,
        objective_state=objective_state,
    )
    return new_state, metrics


def eval_step(
    state: TrainState, batch: Batch, *, stream: Stream, box: Box = as_they_are
) -> Metrics:
    """Returns the metrics of one held-out batch of `stream`; nothing in the state moves.

    Args:
        state: Of a run.
        batch: Held-out rows.
        stream: The stream, for its objective.
        box: See `train_step`.
    """
    rng = state.evaluation_rng()
    params, held = box(state.params, state.objective_state)
    loss, metrics, _ = stream.objective.loss(params, held[stream.name], batch, rng, train=False)
    return _named(stream.name, {"loss": loss, **metrics})


def choose(condition: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    """Returns `new` or `old`; a leaf that is both is left alone.

    Args:
        condition: Whether it is `new`, bool [].
        new: Arrays.
        old: Arrays of the same shapes.
    """
    return jax.tree.map(lambda n, o: n if n is o else jnp.where(condition, n, o), new, old)


def _only_if(accepted: jax.Array, update: Update, leave: Update) -> Update:
    """Returns what does `update` if accepted, else `leave`.

    On CPUs by a branch, which takes 7% less time of a step than choosing between what both return.
    But a branch keeps XLA from fusing gradients with what reads them, so that elsewhere choosing
    moves less: a tenth of what a step of T5 base moves on TPUs.
    """
    if platform() == "cpu":
        return functools.partial(jax.lax.cond, accepted, update, leave)
    return lambda *args: choose(accepted, update(*args), leave(*args))


def _named(stream: str, metrics: Metrics) -> Metrics:
    return {f"{stream}/{name}": value for name, value in metrics.items()}


def _norms(name: str, tree: PyTree) -> Metrics:
    """Returns the L2 norm of `tree` as `name`, and of each module as `name`/module.

    A module is a top-level name of the parameters: encoder, decoder, token_embedder, ...
    """
    squares = {module: optax.tree.norm(part, squared=True) for module, part in tree.items()}
    norms = {f"{name}/{module}": jnp.sqrt(square) for module, square in squares.items()}
    total = jnp.sqrt(sum(squares.values(), jnp.float32(0.0)))
    return {key: _scalar(norm) for key, norm in {name: total, **norms}.items()}


def _scalar(value: ArrayLike) -> WeightedMean:
    return WeightedMean(jnp.asarray(value, jnp.float32), jnp.float32(1.0))
