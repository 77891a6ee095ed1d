"""Tests of codet5p_jax.objectives.classification."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen as nn

from codet5p_jax.models.codet5p import CodeT5p, fresh_params
from codet5p_jax.models.flops import encoder_flops
from codet5p_jax.objectives.classification import ClassificationObjective
from codet5p_jax.training.curriculum import Stream
from codet5p_jax.training.state import TrainState
from codet5p_jax.training.step import train_step

LABELS = np.array([0, 2, 1, 2])
WEIGHTS = np.array([1.0, 0.0, 1.0, 1.0])


def _tokens(seed, length=7):
    numbers = np.random.default_rng(seed)
    tokens = numbers.integers(5, 400, (4, length)).astype(np.int32)
    tokens[:, 0], tokens[0, 4:] = 1, 0
    return jnp.asarray(tokens)


@pytest.fixture(params=[False, True], ids=["one", "pair"])
def objective(request, tiny_model):
    return ClassificationObjective(model=tiny_model, num_classes=3, pair=request.param)


@pytest.fixture
def batch(objective):
    names = [name for name in objective.required_features if name != "labels"]
    inputs = {name: _tokens(seed, length=7 + seed) for seed, name in enumerate(names)}
    return {**inputs, "labels": jnp.asarray(LABELS), "weights": jnp.asarray(WEIGHTS, jnp.float32)}


def _torch_loss(embeddings, head, labels, weights):
    """Head, loss and accuracy, as CodeT5's DefectModel and CloneModel compute them."""

    def linear(x, layer):
        return torch.nn.functional.linear(x, layer["kernel"].T, layer["bias"])

    x = torch.cat(embeddings, dim=-1)
    if "dense" in head:
        x = torch.tanh(linear(x, head["dense"]))
    x = linear(x, head["out"])
    nats = torch.nn.functional.cross_entropy(x, labels, reduction="none")
    right = (x.argmax(-1) == labels).double()
    return (nats * weights).sum() / weights.sum(), (right * weights).sum() / weights.sum()


def _double(x):
    return torch.tensor(np.asarray(x), dtype=torch.float64, requires_grad=True)


@pytest.fixture
def params(objective, tiny_params, rng):
    """Parameters whose biases are not 0, so that they can be missed."""
    head = jax.tree.map(lambda x: x + 0.3, objective.init_params(rng))
    return {**tiny_params, **head}


def _value_and_grad(objective, params, batch, rng):
    def loss_fn(params):
        loss, metrics, _ = objective.loss(params, {}, batch, rng, train=False)
        return loss.compute(), metrics["accuracy"].compute()

    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params)


def test_loss_accuracy_and_gradients_equal_those_of_torch(objective, batch, params, rng):
    (loss, accuracy), grads = _value_and_grad(objective, params, batch, rng)
    model_params = {name: value for name, value in params.items() if name != "classifier"}

    def embed(scale):
        encoder = {**model_params["encoder"], "final_norm": {"scale": scale}}
        variables = {"params": {**model_params, "encoder": encoder}}
        inputs = [batch[name] for name in objective.required_features if name != "labels"]
        return [objective.model.apply(variables, x, method="encode")[:, 0] for x in inputs]

    embeddings, pull_back = jax.vjp(embed, params["encoder"]["final_norm"]["scale"])
    head, doubles = jax.tree.map(_double, (params["classifier"], embeddings))
    expected, expected_accuracy = _torch_loss(
        doubles, head, torch.tensor(LABELS), torch.tensor(WEIGHTS)
    )
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)  # float32 against float64
    np.testing.assert_allclose(accuracy, expected_accuracy.item(), rtol=1e-6)
    jax.tree.map(
        lambda got, wanted: np.testing.assert_allclose(got, wanted.grad, rtol=1e-4, atol=1e-6),
        grads["classifier"],
        head,
    )
    (d_scale,) = pull_back([jnp.asarray(x.grad.numpy(), jnp.float32) for x in doubles])
    np.testing.assert_allclose(
        grads["encoder"]["final_norm"]["scale"], d_scale, rtol=1e-4, atol=1e-6
    )


def test_the_encoder_learns_and_the_decoder_does_not(objective, batch, params, rng):
    _, grads = _value_and_grad(objective, params, batch, rng)
    moved = {name: float(optax.tree.norm(grads[name])) > 0 for name in ("encoder", "decoder")}
    assert moved == {"encoder": True, "decoder": False}


def test_an_example_of_weight_0_does_not_count(objective, batch, params, rng):
    other = {**batch, "labels": batch["labels"].at[1].set(0)}
    losses = [objective.loss(params, {}, b, rng, train=False)[0] for b in (batch, other)]
    assert float(losses[0].total) == float(losses[1].total)
    assert float(losses[0].weight) == 3.0


def test_without_weights_every_example_counts(objective, batch, params, rng):
    del batch["weights"]
    assert float(objective.loss(params, {}, batch, rng, train=False)[0].weight) == 4.0


def test_a_tiny_model_learns_to_separate_two_classes(tiny_model, tiny_params, rng):
    """A sequence belongs to class 1 when it holds the id 7."""
    objective = ClassificationObjective(model=tiny_model, num_classes=2)
    tokens = np.random.default_rng(0).integers(20, 60, (32, 6)).astype(np.int32)
    tokens[:, 0] = 1
    labels = np.arange(32) % 2
    tokens[labels == 1, 3] = 7
    batch = {"input_tokens": jnp.asarray(tokens), "labels": jnp.asarray(labels)}
    stream = Stream(name="defects", objective=objective, dataset=None)
    params = {**tiny_params, **objective.init_params(rng)}
    optimizer = optax.adam(3e-3)
    state = TrainState(
        step=jnp.int32(0),
        params=params,
        opt_state=optimizer.init(params),
        objective_state={"defects": objective.init(rng, params)},
        rng=rng,
    )
    step = jax.jit(
        lambda state, batch: train_step(
            state,
            {"defects": batch},
            streams=[stream],
            optimizer=optimizer,
            learning_rate=lambda step: 3e-3,
        )
    )
    state, first = step(state, batch)
    for _ in range(60):
        state, last = step(state, batch)
    assert float(first["defects/loss"].compute()) == pytest.approx(np.log(2), abs=0.1)
    assert float(last["defects/accuracy"].compute()) == 1.0
    assert float(last["defects/loss"].compute()) < 0.1


def test_flops_are_those_of_the_encoder_and_the_head(tiny_model):
    one = ClassificationObjective(model=tiny_model, num_classes=3)
    two = ClassificationObjective(model=tiny_model, num_classes=3, pair=True)
    encoder = encoder_flops(tiny_model.config, rows=4, length=9)
    assert one.flops({"input_tokens": (4, 9), "labels": (4,)}) == 3 * (encoder + 2 * 4 * 16 * 3)
    head = 2 * 4 * (32 * 16 + 16 * 3)
    shapes = {"first_tokens": (4, 9), "second_tokens": (4, 9), "labels": (4,)}
    assert two.flops(shapes) == 3 * (2 * encoder + head)


def test_an_encoder_alone_will_do(tiny_model, rng):
    model = CodeT5p(
        dataclasses.replace(tiny_model.config, num_decoder_layers=0, matching_head=False)
    )
    objective = ClassificationObjective(model=model, num_classes=2)
    params = {**nn.unbox(fresh_params(model, rng)), **objective.init_params(rng)}
    batch = {"input_tokens": _tokens(0), "labels": jnp.asarray(LABELS % 2)}
    loss = objective.loss(params, {}, batch, rng, train=False)[0]
    assert float(loss.compute()) == pytest.approx(np.log(2), abs=0.1)  # it knows nothing yet
    assert "decoder" not in params


def test_one_class_is_an_error(tiny_model):
    with pytest.raises(ValueError, match=r"ClassificationObjective.num_classes is 1; .* at least"):
        ClassificationObjective(model=tiny_model, num_classes=1)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_class_makes_the_loss_no_number(tiny_model, tiny_params, rng, label):
    objective = ClassificationObjective(model=tiny_model, num_classes=2)
    params = {**tiny_params, **objective.init_params(rng)}
    labels = jnp.asarray(LABELS).at[0].set(label)
    batch = {"input_tokens": _tokens(0), "labels": labels}
    assert jnp.isnan(objective.loss(params, {}, batch, rng, train=False)[0].compute())


def test_a_batch_of_the_other_kind_is_an_error(tiny_model, tiny_params, rng):
    objective = ClassificationObjective(model=tiny_model, num_classes=2)
    batch = {"first_tokens": _tokens(0), "second_tokens": _tokens(1), "labels": jnp.asarray(LABELS)}
    with pytest.raises(ValueError, match=r"pair is False, and .* first_tokens, .* set it to True"):
        objective.loss(tiny_params, {}, batch, rng, train=False)
    with pytest.raises(ValueError, match=r"ClassificationObjective reads labels, and the batches"):
        objective.loss(tiny_params, {}, {"input_tokens": _tokens(0)}, rng, train=False)
