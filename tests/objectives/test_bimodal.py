"""Tests of codet5p_jax.objectives.bimodal: shared passes against separate ones, and invariances."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.flops import bimodal_training_flops
from codet5p_jax.objectives.bimodal import LOSSES, MOMENTUM_PARAMS, BimodalObjective

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


def _torch_albef(f, g, queued, ids, queue_ids, temperature, alpha):
    """ALBEF's contrastive loss with queue, momentum targets and pair ids, in torch."""
    keys = {side: torch.cat([g[side], queued[side]]) for side in f}
    same = torch.eq(ids[:, None], torch.cat([ids, queue_ids])[None]).float()
    hard = same / same.sum(1, keepdim=True)
    total = 0.0
    for query, key in (("text", "code"), ("code", "text")):
        with torch.no_grad():
            soft = torch.softmax(g[query] @ keys[key].T / temperature, dim=1)
            targets = alpha * soft + (1 - alpha) * hard
        logits = f[query] @ keys[key].T / temperature
        total -= (torch.log_softmax(logits, dim=1) * targets).sum(1).mean() / 2
    return total


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_contrastive_loss_with_queue_is_albefs_with_gradients(objective, params, rng, alpha):
    soft = dataclasses.replace(
        objective,
        alpha=alpha,
        **{f"{k}_weight": 0.0 for k in ("matching", "text_to_code", "code_to_text")},
    )
    state = nn.unbox(soft.init(rng, params))
    state = state.replace(  # a momentum encoder that differs, and a queue that holds a duplicate
        momentum_params=jax.tree.map(lambda p: 1.1 * p, state.momentum_params),
        queue=state.queue.replace(pair_ids=jnp.array([2, -100, 9, 9, 1, 1, -100, 3])),
    )
    batch, variables = _batch(), {"params": params}

    def loss(projection, temperature):
        changed = {**params, "projection": projection, "contrastive": {"temperature": temperature}}
        return soft.loss(changed, state, batch, rng, train=False)[0].compute()

    tau = params["contrastive"]["temperature"]
    value, (d_projection, d_tau) = jax.value_and_grad(loss, argnums=(0, 1))(
        params["projection"], tau
    )

    projection = {k: torch.tensor(np.array(v)) for k, v in params["projection"].items()}
    temperature = torch.tensor(float(tau), requires_grad=True)
    for leaf in projection.values():
        leaf.requires_grad_()
    f, g, queued = {}, {}, {}
    for side in ("text", "code"):
        tokens = batch[f"{side}_tokens"]
        hidden = soft.model.apply(variables, tokens, method="encode")[:, 0]
        h = torch.tensor(np.array(hidden)) @ projection["kernel"] + projection["bias"]
        f[side] = torch.nn.functional.normalize(h, dim=-1)
        momentum = {"params": state.momentum_params}
        g[side] = torch.tensor(np.array(soft.model.apply(momentum, tokens, method="embed")))
        queued[side] = torch.tensor(np.array(getattr(state.queue, f"{side}_features")))
    ids, queue_ids = (torch.tensor(np.array(x)) for x in (batch["pair_ids"], state.queue.pair_ids))
    expected = _torch_albef(f, g, queued, ids, queue_ids, temperature, alpha)
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(d_tau, temperature.grad.item(), rtol=1e-3)
    for name, leaf in projection.items():
        np.testing.assert_allclose(d_projection[name], leaf.grad.numpy(), atol=1e-4)


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
    with pytest.raises(ValueError, match=r"negative_hardness is -1\.0; .* number, 0 or more"):
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

    @jax.jit
    @jax.grad
    def gradients(params):
        return objective.loss(params, state, _batch(), rng, train=False)[0].compute()

    without = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(gradients(params))
        if float(jnp.abs(g).max()) == 0.0
    ]
    assert without == []


@pytest.mark.parametrize(
    ("from_queue", "num_lengths"),
    [
        (True, 4),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((False, 1), (True, 1), (False, 4))
        ),
    ],
)
def test_microbatches_change_neither_losses_nor_gradients(tiny_model, rng, num_lengths, from_queue):
    whole = BimodalObjective(
        model=tiny_model,
        text_length=16,
        code_length=24,
        queue_size=8,
        negatives_from_queue=from_queue,
    )
    parts = dataclasses.replace(whole, microbatches=2, num_lengths=num_lengths, chunk_length=5)
    tokens = jnp.ones((1, 2), jnp.int32)
    params = nn.unbox(tiny_model.init(rng, tokens, tokens))["params"] | whole.init_params(rng)
    numbers = np.random.default_rng(4)
    batch = {
        "text_tokens": _sequence(numbers, 16),
        "code_tokens": _sequence(numbers, 24),
        "pair_ids": jnp.array([1, 2, 1, 3]),
    }
    state = nn.unbox(whole.init(rng, params))
    state = state.replace(queue=state.queue.replace(pair_ids=jnp.arange(8) + 10))

    @functools.partial(jax.jit, static_argnums=0)
    def values(objective, params):
        def total(params):
            loss, metrics, _ = objective.loss(params, state, batch, rng, train=False)
            return loss.compute(), {name: mean.compute() for name, mean in metrics.items()}

        return jax.value_and_grad(total, has_aux=True)(params)

    expected, got = values(whole, params), values(parts, params)
    # rtol of a sum in another order; the largest gradient is about 3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), got, expected)


def test_a_loss_of_weight_zero_is_left_out(objective, params, rng):
    for name in LOSSES:
        others = [loss for loss in LOSSES if loss != name]
        without = dataclasses.replace(objective, **{f"{name}_weight": 0.0})
        loss, metrics, _ = _loss(without, params, _batch(), rng)
        assert f"{name}_loss" not in metrics
        expected = sum(float(metrics[f"{other}_loss"].compute()) for other in others)
        np.testing.assert_allclose(loss.compute(), expected, rtol=1e-6)


def test_a_weight_multiplies_its_loss(objective, params, rng):
    heavy = dataclasses.replace(objective, matching_weight=3.0)
    (loss, metrics, _), (plain, *_) = (_loss(o, params, _batch(), rng) for o in (heavy, objective))
    more = 2 * metrics["matching_loss"].compute()
    np.testing.assert_allclose(loss.compute() - plain.compute(), more, rtol=1e-5)


def test_without_momentum_the_keys_are_the_trained_encoders(objective, params, rng):
    alone = dataclasses.replace(objective, momentum=0.0)
    state = nn.unbox(alone.init(rng, params))
    assert state.momentum_params == {}
    _, metrics, _ = alone.loss(params, state, _batch(), rng, train=False)
    _, expected, _ = _loss(objective, params, _batch(), rng)  # its momentum copy is the same yet
    np.testing.assert_allclose(
        metrics["contrastive_loss"].compute(), expected["contrastive_loss"].compute(), rtol=1e-5
    )


def test_negatives_from_the_queue_are_the_most_similar_pair_written(objective, params, rng):
    hardest = dataclasses.replace(objective, negatives_from_queue=True, negative_hardness=1e4)
    batch, variables = _batch(), {"params": params}
    state = nn.unbox(hardest.init(rng, params))
    _, _, state = hardest.loss(params, state, _batch(seed=7, ids=(5, 6, 7, 8)), rng, train=True)
    # the unwritten half of the queue is made irresistible: it must not be drawn all the same
    embedded = {
        side: np.asarray(hardest.model.apply(variables, batch[f"{side}_tokens"], method="embed"))
        for side in ("text", "code")
    }
    queue = state.queue.replace(
        text_features=state.queue.text_features.at[4:].set(embedded["code"]),
        code_features=state.queue.code_features.at[4:].set(embedded["text"]),
    )
    state = state.replace(queue=queue, momentum_params={k: params[k] for k in MOMENTUM_PARAMS})
    _, metrics, _ = hardest.loss(params, state, batch, rng, train=False)

    tokens = {
        side: np.concatenate([batch[f"{side}_tokens"], getattr(queue, f"{side}_tokens")[:4]])
        for side in ("text", "code")
    }
    keys = {
        side: np.concatenate([embedded[side], getattr(queue, f"{side}_features")[:4]])
        for side in ("text", "code")
    }
    own = np.eye(ROWS, 2 * ROWS, dtype=bool)
    wrong_code = np.where(own, -np.inf, embedded["text"] @ keys["code"].T).argmax(axis=1)
    wrong_text = np.where(own, -np.inf, embedded["code"] @ keys["text"].T).argmax(axis=1)
    rows = np.arange(ROWS)
    texts = tokens["text"][np.concatenate([rows, rows, wrong_text])]
    codes = tokens["code"][np.concatenate([rows, wrong_code, rows])]
    pairs = jnp.asarray(texts), jnp.asarray(codes)
    logits = hardest.model.apply(variables, *pairs, method="match")
    true, false = np.asarray(jax.nn.log_softmax(logits)).T[::-1]
    expected = -(true[:ROWS].sum() + false[ROWS:].sum()) / (3 * ROWS)
    np.testing.assert_allclose(metrics["matching_loss"].compute(), expected, rtol=1e-5)
    assert max(wrong_code.max(), wrong_text.max()) >= ROWS  # the queue had something to offer


def test_no_loss_at_all_is_refused(objective):
    with pytest.raises(ValueError, match="has no loss: all of CONTRASTIVE_WEIGHT"):
        dataclasses.replace(objective, **{f"{name}_weight": 0.0 for name in LOSSES})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("matching_weight", -1.0),
        ("text_to_code_weight", float("nan")),
        ("code_to_text_weight", float("inf")),
        ("microbatches", 0),
        ("num_lengths", -1),
        ("chunk_length", 0),
        ("alpha_ramp_steps", -1),
    ],
)
def test_a_number_below_its_least_names_the_macro(objective, name, value):
    with pytest.raises(ValueError, match=rf"BimodalObjective\.{name} is {value}.*{name.upper()}"):
        dataclasses.replace(objective, **{name: value})


def test_one_pair_without_a_queue_is_refused(objective):
    alone = dataclasses.replace(objective, queue_size=0)
    shapes = {"text_tokens": (1, TEXT), "code_tokens": (1, CODE), "pair_ids": (1,)}
    with pytest.raises(ValueError, match=r"one pair without a queue .* Set BATCH_SIZE to 2"):
        alone.check_shapes(shapes)


def test_a_temperature_beyond_the_clamp_is_refused(objective):
    with pytest.raises(ValueError, match=r"initial_temperature is 0\.0; .*0\.001, .*TEMPERATURE"):
        dataclasses.replace(objective, initial_temperature=0.0)


def test_lengths_without_microbatches_are_refused(objective):
    with pytest.raises(ValueError, match=r"num_lengths is 4.* Set MICROBATCHES to 4 or more"):
        dataclasses.replace(objective, num_lengths=4)


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
    with pytest.raises(ValueError, match=r"queue_size is 10, no multiple .* of 4.* 8 or 12"):
        _loss(dataclasses.replace(objective, queue_size=10), params, _batch(), rng)


def test_a_length_that_differs_from_the_stream_is_refused(objective, params, rng):
    wrong = dataclasses.replace(objective, code_length=12)
    with pytest.raises(ValueError, match=r"code_length is 12, and .* 9 tokens .* Set CODE_L"):
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
