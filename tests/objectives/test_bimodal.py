"""Tests of codet5p_jax.objectives.bimodal: shared passes against separate ones, and invariances."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.flops import bimodal_training_flops
from codet5p_jax.objectives.bimodal import BimodalObjective

TEXT, CODE, ROWS = 6, 9, 4


@pytest.fixture(scope="module")
def objective(tiny_model):
    return BimodalObjective(model=tiny_model, text_length=TEXT, code_length=CODE, queue_size=8)


@pytest.fixture(scope="module")
def params(objective, tiny_params):
    return {**tiny_params, **objective.init_params(jax.random.key(0))}


def _sequence(numbers, length):
    rows = np.zeros((ROWS, length), np.int32)
    for row in rows:
        size = numbers.integers(3, length + 1)
        row[:size] = numbers.integers(5, 400, size)
        row[0], row[size - 1] = 1, 2
    return jnp.asarray(rows)


def _batch(seed=0, ids=(1, 2, 3, 4)):
    numbers = np.random.default_rng(seed)
    return {
        "text_tokens": _sequence(numbers, TEXT),
        "code_tokens": _sequence(numbers, CODE),
        "pair_ids": jnp.array(ids, jnp.int32),
    }


def _loss(objective, params, batch, rng, train=False, state=None):
    state = nn.unbox(objective.init(rng, params)) if state is None else state
    return objective.loss(params, state, batch, rng, train=train)


def test_contrastive_loss_without_queue_is_in_batch_info_nce(objective, params, rng):
    alone = dataclasses.replace(objective, queue_size=0)
    batch = _batch()
    _, metrics, _ = _loss(alone, params, batch, rng)
    text, code = (
        np.asarray(alone.model.apply({"params": params}, batch[f"{k}_tokens"], method="embed"))
        for k in ("text", "code")
    )
    logits = text @ code.T / 0.07
    own = np.arange(ROWS)
    both = [np.log(np.exp(x).sum(-1)) - x[own, own] for x in (logits.astype(np.float64), logits.T)]
    np.testing.assert_allclose(metrics["contrastive_loss"].compute(), np.mean(both), rtol=1e-4)


def test_generation_losses_equal_those_of_separate_passes(objective, params, rng):
    batch = _batch()
    _, metrics, _ = _loss(objective, params, batch, rng)
    first = objective.model.config.vocab_size - 3
    for name, source, target, task in (
        ("text_to_code", "text_tokens", "code_tokens", first + 2),
        ("code_to_text", "code_tokens", "text_tokens", first + 1),
    ):
        labels = np.array(batch[target])
        labels[:, 0] = task
        inputs = np.concatenate([np.zeros((ROWS, 1), np.int32), labels[:, :-1]], axis=1)
        logits = objective.model.apply({"params": params}, batch[source], inputs)
        nats = -np.take_along_axis(
            np.asarray(jax.nn.log_softmax(logits)), labels[..., None], axis=-1
        )[..., 0]
        expected = (nats * (labels != 0)).sum() / (labels != 0).sum()
        np.testing.assert_allclose(metrics[f"{name}_loss"].compute(), expected, rtol=1e-5)


def test_the_loss_is_the_sum_of_the_four(objective, params, rng):
    loss, metrics, _ = _loss(objective, params, _batch(), rng)
    parts = [float(v.compute()) for k, v in metrics.items() if k.endswith("_loss")]
    assert len(parts) == 4
    np.testing.assert_allclose(loss.compute(), sum(parts), rtol=1e-6)


def test_duplicates_of_a_pair_are_positives_and_never_negatives(objective, params, rng):
    batch = _batch(ids=(5, 5, 5, 5))
    _, metrics, _ = _loss(dataclasses.replace(objective, queue_size=0), params, batch, rng)
    assert float(metrics["matching_loss"].weight) == ROWS  # the pairs alone; no row is a negative


def test_matching_at_great_hardness_is_that_of_the_most_similar_negatives(objective, params, rng):
    batch, variables = _batch(), {"params": params}
    hardest = dataclasses.replace(objective, negative_hardness=1e4)
    _, metrics, _ = _loss(hardest, params, batch, rng)
    text, code = (
        np.asarray(objective.model.apply(variables, batch[f"{k}_tokens"], method="embed"))
        for k in ("text", "code")
    )
    others = np.where(np.eye(ROWS, dtype=bool), -np.inf, text @ code.T)
    own = np.arange(ROWS)
    texts = np.concatenate([own, own, others.argmax(axis=0)])
    codes = np.concatenate([own, others.argmax(axis=1), own])
    logits = objective.model.apply(
        variables, batch["text_tokens"][texts], batch["code_tokens"][codes], method="match"
    )
    true, false = np.asarray(jax.nn.log_softmax(logits)).T[::-1]
    expected = -(true[:ROWS].sum() + false[ROWS:].sum()) / (3 * ROWS)
    np.testing.assert_allclose(metrics["matching_loss"].compute(), expected, rtol=1e-5)


def test_without_hardness_every_negative_is_as_likely_as_any(objective, params):
    alike = dataclasses.replace(objective, queue_size=0, negative_hardness=0.0)
    loss = jax.jit(lambda rng: _loss(alike, params, _batch(), rng)[1]["matching_loss"].compute())
    seen = [float(loss(jax.random.key(seed))) for seed in range(60)]
    # four texts and four codes have three negatives each: few draws are the same
    assert len(set(seen)) > 45


def test_a_hardness_below_zero_is_refused(objective):
    with pytest.raises(ValueError, match=r"negative_hardness is -1\.0; it must be 0"):
        dataclasses.replace(objective, negative_hardness=-1.0)


def test_the_queue_and_the_momentum_model_move_in_training_only(objective, params, rng):
    state = nn.unbox(objective.init(rng, params))
    moved = jax.tree.map(lambda p: p + 1.0, params)
    moved["contrastive"] = params["contrastive"]
    _, _, still = objective.loss(moved, state, _batch(), rng, train=False)
    _, _, after = objective.loss(moved, state, _batch(), rng, train=True)
    assert still.queue.pair_ids.tolist() == [-100] * 8
    assert after.queue.pair_ids.tolist() == [1, 2, 3, 4] + [-100] * 4
    before = state.momentum_params["projection"]["bias"]
    np.testing.assert_allclose(
        after.momentum_params["projection"]["bias"], before + 0.005, atol=1e-5
    )


def test_queued_pairs_are_further_negatives(objective, params, rng):
    state = nn.unbox(objective.init(rng, params))
    _, first, state = objective.loss(params, state, _batch(), rng, train=True)
    _, again, _ = objective.loss(params, state, _batch(), rng, train=True)
    alone = dataclasses.replace(objective, queue_size=0)
    _, without, _ = _loss(alone, params, _batch(), rng)
    assert float(first["contrastive_loss"].compute()) > float(without["contrastive_loss"].compute())
    # the second time the batch meets itself in the queue: two positives each
    assert np.isfinite(float(again["contrastive_loss"].compute()))


def test_momentum_parameters_get_no_gradient(objective, params, rng):
    state = nn.unbox(objective.init(rng, params))

    def loss(momentum_params):
        changed = state.replace(momentum_params=momentum_params)
        return objective.loss(params, changed, _batch(), rng, train=False)[0].compute()

    gradient = jax.grad(loss)(state.momentum_params)
    assert all(float(jnp.abs(g).max()) == 0.0 for g in jax.tree.leaves(gradient))


def test_every_trained_parameter_gets_a_gradient(objective, params, rng):
    state = nn.unbox(objective.init(rng, params))
    gradient = jax.grad(
        lambda p: objective.loss(p, state, _batch(), rng, train=False)[0].compute()
    )(params)
    without = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(gradient)
        if float(jnp.abs(g).max()) == 0.0
    ]
    assert without == []


def test_alpha_grows_over_its_ramp(objective, params, rng):
    ramped = dataclasses.replace(objective, alpha=0.4, alpha_ramp_steps=10)
    start = nn.unbox(ramped.init(rng, params))
    losses = {
        steps: float(
            ramped.loss(params, start.replace(steps=jnp.int32(steps)), _batch(), rng, train=False)[
                1
            ]["contrastive_loss"].compute()
        )
        for steps in (0, 10, 20)
    }
    hard = float(_loss(objective, params, _batch(), rng)[1]["contrastive_loss"].compute())
    np.testing.assert_allclose(losses[0], hard, rtol=1e-6)
    assert losses[10] == losses[20] != losses[0]


@pytest.mark.parametrize("name", ["alpha", "momentum"])
def test_a_share_outside_zero_to_one_names_the_parameter(objective, name):
    with pytest.raises(ValueError, match=rf"BimodalObjective\.{name} is 1\.5.*\[0, 1\]"):
        dataclasses.replace(objective, **{name: 1.5})


def test_a_model_without_heads_is_refused(tiny_model):
    bare = dataclasses.replace(tiny_model.config, projection_dim=None, matching_head=False)
    with pytest.raises(ValueError, match=r"T5Config\.projection_dim .* T5Config\.matching_head"):
        BimodalObjective(model=CodeT5p(bare))


def test_a_queue_that_the_batch_does_not_divide_names_one_that_fits(objective, params, rng):
    with pytest.raises(ValueError, match=r"queue_size is 10, no multiple of the batch of 4.* 8\."):
        _loss(dataclasses.replace(objective, queue_size=10), params, _batch(), rng)


def test_a_length_that_differs_from_the_stream_is_refused(objective, params, rng):
    wrong = dataclasses.replace(objective, code_length=12)
    with pytest.raises(ValueError, match=r"code_length is 12, but the stream's code_tokens have 9"):
        _loss(wrong, params, _batch(), rng)


def test_flops_are_those_of_the_passes_that_are_made(objective):
    shapes = {
        name: (ROWS, length) for name, length in (("text_tokens", TEXT), ("code_tokens", CODE))
    }
    sizes = {"pairs": ROWS, "text_length": TEXT, "code_length": CODE}
    config = objective.model.config
    assert objective.flops(shapes) == bimodal_training_flops(config, **sizes)
    less = dataclasses.replace(
        objective, momentum=0.0, code_to_text_weight=0.0, negatives_from_queue=True
    )
    assert less.flops(shapes) == bimodal_training_flops(
        config, **sizes, momentum=False, code_to_text=False, encoded_negatives=True
    )
