"""Tests of codet5p_jax.training.step: one update of a tiny model, and its program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training.curriculum import Stream
from codet5p_jax.training.optimizer import adamw
from codet5p_jax.training.parameter_rules import EVERY_PARAMETER, parameter_factors
from codet5p_jax.training.state import TrainState
from codet5p_jax.training.step import train_step
from codet5p_jax.typing import WeightedMean

FROZEN_DECODER = [("decoder/.*", None), (".*", 1.0)]
LEARNING_RATE = 0.01


def _batches():
    tokens = np.random.default_rng(0).integers(5, 400, (2, 4)).astype(np.int32)
    batch = {
        "encoder_input_tokens": tokens,
        "decoder_input_tokens": np.pad(tokens[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": tokens,
        "decoder_loss_weights": np.ones_like(tokens),
    }
    return {"lm": batch}


def _optimizer():
    return adamw(lambda step: LEARNING_RATE)


def _state(params, rules=EVERY_PARAMETER, frozen_dtype=None):
    factors = parameter_factors(rules, params)
    return TrainState(
        step=jnp.int32(0),
        params=jax.tree.map(jnp.array, factors.cast_frozen(params, frozen_dtype)),
        opt_state=_optimizer().init(factors.split(params)[0]),
        objective_state={"lm": {}},
        rng=jax.random.key(0),
    )


def _compiled(model, state, rules):
    step = functools.partial(
        train_step,
        streams=[Stream(name="lm", objective=Seq2SeqObjective(model=model), dataset=None)],
        optimizer=_optimizer(),
        learning_rate=lambda step: LEARNING_RATE,
        parameter_rules=rules,
    )
    return jax.jit(step, donate_argnums=0).lower(state, _batches()).compile()


def _bytes(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def whole(tiny_model, tiny_params):
    """The step that trains everything."""
    return _compiled(tiny_model, _state(tiny_params), EVERY_PARAMETER)


@pytest.fixture(scope="module")
def frozen(tiny_model, tiny_params):
    """The step with a frozen decoder."""
    return _compiled(tiny_model, _state(tiny_params, FROZEN_DECODER), FROZEN_DECODER)


def test_frozen_parameters_need_no_moments_and_no_gradient(tiny_params, whole, frozen):
    before, after = whole.memory_analysis(), frozen.memory_analysis()
    size = _bytes(tiny_params["decoder"])
    assert before.argument_size_in_bytes - after.argument_size_in_bytes >= 2 * size
    assert before.output_size_in_bytes - after.output_size_in_bytes >= 2 * size
    assert before.temp_size_in_bytes - after.temp_size_in_bytes >= size


def test_no_frozen_parameter_changes_by_a_bit_and_every_other_moves(tiny_params, frozen):
    state, _ = frozen(_state(tiny_params, FROZEN_DECODER), _batches())
    state, metrics = frozen(state, _batches())
    jax.tree.map(np.testing.assert_array_equal, state.params["decoder"], tiny_params["decoder"])
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), state.params["encoder"], tiny_params["encoder"]
    )
    assert all(jax.tree.leaves(moved))
    assert "decoder" not in state.opt_state[1][0].mu
    assert float(metrics["lm/loss"].compute()) > 0


def test_frozen_parameters_may_be_bfloat16(tiny_model, tiny_params):
    """With nothing but the decoder trained: embedding, encoder and heads lie in bfloat16."""
    rules = [("decoder/.*", 1.0), (".*", None)]
    start = _state(tiny_params, rules, "bfloat16")
    table = np.asarray(start.params["token_embedder"]["embedding"])
    state, metrics = _compiled(tiny_model, start, rules)(start, _batches())
    assert state.params["token_embedder"]["embedding"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(state.params["token_embedder"]["embedding"], table)
    assert state.params["decoder"]["final_norm"]["scale"].dtype == jnp.float32
    assert np.isfinite(metrics["lm/loss"].compute())


def test_a_module_moves_at_its_own_learning_rate(tiny_model, tiny_params, whole):
    """Ten times for the encoder: weight decay included, as if its learning rate were so."""
    rules = [("encoder/.*", 10.0), (".*", 1.0)]
    faster = _compiled(tiny_model, _state(tiny_params), rules)
    plain, _ = whole(_state(tiny_params), _batches())
    moved, _ = faster(_state(tiny_params), _batches())
    path = ("layers", "attention", "query", "kernel")
    for module, factor in (("encoder", 10.0), ("decoder", 1.0)):
        kernel, one, other = tiny_params[module], plain.params[module], moved.params[module]
        for name in path:
            kernel, one, other = kernel[name], one[name], other[name]
        np.testing.assert_allclose(other - kernel, factor * (one - kernel), atol=1e-6)


def _norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))


def test_norms_are_of_all_that_is_trained_and_of_each_module(tiny_params, frozen):
    start = _state(tiny_params, FROZEN_DECODER)
    before = jax.tree.map(np.asarray, start.params)
    state, metrics = frozen(start, _batches())
    values = {name: float(mean.compute()) for name, mean in metrics.items()}
    modules = sorted(set(tiny_params) - {"decoder"})
    for quantity in ("gradient_norm", "update_norm", "parameter_norm"):
        named = {name for name in values if name.startswith(f"{quantity}/")}
        assert named == {f"{quantity}/{module}" for module in modules}
        squares = [values[f"{quantity}/{module}"] ** 2 for module in modules]
        np.testing.assert_allclose(values[quantity], np.sqrt(sum(squares)), rtol=1e-5)
    moved = jax.tree.map(lambda a, b: np.asarray(a) - b, state.params["encoder"], before["encoder"])
    np.testing.assert_allclose(values["update_norm/encoder"], _norm(moved), rtol=1e-4)
    np.testing.assert_allclose(
        values["parameter_norm/encoder"], _norm(state.params["encoder"]), rtol=1e-5
    )


class SlopeObjective(Seq2SeqObjective):
    """A loss that is a parameter times the slope in the batch."""

    def loss(self, params, state, batch, rng, *, train):
        total = 2 * batch["slope"] * params["module"]["weight"]
        return WeightedMean(total, jnp.float32(2.0)), {}, state


def test_the_loss_of_a_step_is_the_weighted_sum_of_its_streams(tiny_model):
    """1/2 of a slope of 2, and 3 times one of 4: 13, which a rate of 1 subtracts."""
    objective, optimizer = SlopeObjective(model=tiny_model), optax.sgd(1.0)
    streams = [
        Stream(name=name, objective=objective, dataset=None, weight=weight)
        for name, weight in (("a", 0.5), ("b", 3.0))
    ]
    params = {"module": {"weight": jnp.float32(1.0)}}
    state, metrics = train_step(
        TrainState(
            jnp.int32(0), params, optimizer.init(params), {"a": {}, "b": {}}, jax.random.key(0)
        ),
        {"a": {"slope": jnp.float32(2.0)}, "b": {"slope": jnp.float32(4.0)}},
        streams=streams,
        optimizer=optimizer,
        learning_rate=lambda step: 1.0,
    )
    assert [float(metrics[name].compute()) for name in ("a/loss", "b/loss", "loss")] == [2, 4, 13]
    assert float(state.params["module"]["weight"]) == 1 - 13
