"""Tests of codet5p_jax.training.optimizer, against torch's AdamW and Adafactor in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen as nn
from jax.sharding import PartitionSpec

from codet5p_jax.training.optimizer import adafactor, adamw, decayed, init_state
from codet5p_jax.training.partitioning import Partitioner, standard_logical_axis_rules
from codet5p_jax.training.state import TrainState


def test_decay_leaves_norms_biases_tables_and_temperature_alone(tiny_params):
    params = {**tiny_params, "contrastive": {"temperature": jnp.float32(0.07)}}
    flags = jax.tree_util.tree_leaves_with_path(decayed(params))
    kept = sorted(
        jax.tree_util.keystr(path, simple=True, separator="/") for path, on in flags if not on
    )
    assert kept == [
        "contrastive/temperature",
        "decoder/final_norm/scale",
        "decoder/layers/attention_norm/scale",
        "decoder/layers/cross_attention_norm/scale",
        "decoder/layers/mlp_norm/scale",
        "decoder/relative_position_bias/embedding",
        "encoder/final_norm/scale",
        "encoder/layers/attention_norm/scale",
        "encoder/layers/mlp_norm/scale",
        "encoder/relative_position_bias/embedding",
        "matching_head/bias",
        "projection/bias",
    ]


def _names(part):
    """Names as the model's, so that only the kernel decays."""
    return {
        "layers": {"kernel": part[0]},
        "final_norm": {"scale": part[1]},
        "projection": {"bias": part[2]},
        "relative_position_bias": {"embedding": part[3]},
        "contrastive": {"temperature": part[4]},
    }


SHAPES = [(3, 4), (4,), (4,), (2, 3), (1,)]


@pytest.mark.parametrize("max_norm", [1.0, None], ids=["clipped", "not clipped"])
def test_five_updates_match_torchs_adamw_with_decay_of_the_kernel_alone(max_norm):
    numbers = np.random.default_rng(0)
    start = [numbers.normal(size=shape).astype(np.float32) for shape in SHAPES]
    optimizer = adamw(lambda step: 0.01 / (step + 1), weight_decay=0.1, max_gradient_norm=max_norm)
    params = jax.tree.map(jnp.asarray, _names(start))
    state = optimizer.init(params)
    weights = [torch.nn.Parameter(torch.tensor(part)) for part in start]
    groups = [{"params": weights[:1], "weight_decay": 0.1}, {"params": weights[1:]}]
    peer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.0)
    for step in range(5):
        gradients = [numbers.normal(size=shape).astype(np.float32) for shape in SHAPES]
        updates, state = optimizer.update(_names(gradients), state, params)
        params = optax.apply_updates(params, updates)
        for group in peer.param_groups:
            group["lr"] = 0.01 / (step + 1)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = torch.tensor(gradient)
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(weights, max_norm)
        peer.step()
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(_names(weights)), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)


def _root_mean_square(x):
    return np.sqrt(np.mean(np.square(x)))


def test_adafactors_updates_are_those_of_its_algorithm():
    """Algorithm 4 of arXiv:1804.04235 in numpy, on a stack of two layers and a vector."""
    numbers = np.random.default_rng(1)
    kernel, bias = numbers.normal(size=(2, 3, 4)), numbers.normal(size=(4,))
    gradients = [
        {"kernel": numbers.normal(size=(2, 3, 4)), "bias": numbers.normal(size=(4,))}
        for _ in range(3)
    ]
    optimizer = adafactor(lambda step: 0.1, min_dim_size_to_factor=3, weight_decay=0.2)
    params = {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}
    state = optimizer.init(params)

    row, column, moment = np.zeros((2, 3)), np.zeros((2, 4)), np.zeros(4)
    for step, gradient in enumerate(gradients):
        updates, state = optimizer.update(jax.tree.map(jnp.float32, gradient), state, params)
        params = optax.apply_updates(params, updates)

        beta = 1 - (step + 1) ** -0.8
        squares = {name: g**2 for name, g in gradient.items()}
        row = beta * row + (1 - beta) * squares["kernel"].mean(axis=2)
        column = beta * column + (1 - beta) * squares["kernel"].mean(axis=1)
        moment = beta * moment + (1 - beta) * squares["bias"]
        estimate = row[:, :, None] * column[:, None, :] / row.mean(axis=1)[:, None, None]
        for name, second in (("kernel", estimate), ("bias", moment)):
            update = gradient[name] / np.sqrt(second)
            update = update / max(1.0, _root_mean_square(update))
            old = kernel if name == "kernel" else bias
            decay = 0.2 * old if name == "kernel" else 0.0  # a bias does not decay
            new = old - 0.1 * (update * max(1e-3, _root_mean_square(old)) + decay)
            kernel, bias = (new, bias) if name == "kernel" else (kernel, new)

    np.testing.assert_allclose(params["kernel"], kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(params["bias"], bias, rtol=1e-5, atol=1e-6)
    factored = state[0]
    np.testing.assert_allclose(factored.v_row["kernel"], row, rtol=1e-5)
    np.testing.assert_allclose(factored.v_col["kernel"], column, rtol=1e-5)
    assert factored.v["kernel"].size == 1 and factored.v_row["bias"].size == 1


def test_adafactor_without_its_options_is_optaxs():
    params = {"kernel": jnp.linspace(-1.0, 2.0, 12).reshape(3, 4)}
    gradients = jax.tree.map(jnp.cos, params)
    plain = {"clipping_threshold": None, "multiply_by_parameter_scale": False}
    ours, theirs = adafactor(lambda step: 0.1, **plain), optax.adafactor(0.1, **plain)
    moved, _ = ours.update(gradients, ours.init(params), params)
    expected, _ = theirs.update(gradients, theirs.init(params), params)
    np.testing.assert_allclose(moved["kernel"], expected["kernel"], rtol=1e-6)


def _boxed(shape, axes):
    return nn.LogicallyPartitioned(jnp.ones(shape), axes)


@pytest.mark.parametrize("fsdp", [1, 2], ids=["data x model", "parameters over data too"])
def test_optimizer_states_lie_beside_their_parameters_on_eight_devices(fsdp):
    params = {
        "layers": {"kernel": _boxed((2, 8, 16), ("layers", "embed", "mlp"))},
        "norm": {"scale": _boxed((8,), ("embed",))},
    }
    rules = standard_logical_axis_rules(parameter_partitioning_dims=fsdp)
    partitioner = Partitioner(num_partitions=2, devices=jax.devices()[:8], logical_axis_rules=rules)
    embed = "data" if fsdp == 2 else None

    def state(optimizer):
        opt_state = init_state(optimizer, params)
        return TrainState(jnp.int32(0), params, opt_state, {}, jax.random.key(0))

    adam = partitioner.get_mesh_axes(state(adamw(lambda step: 0.1))).opt_state[1][0]
    assert adam.mu["layers"]["kernel"] == PartitionSpec(None, embed, "model")
    factored_state = state(adafactor(lambda step: 0.1, min_dim_size_to_factor=8))
    factored = partitioner.get_mesh_axes(factored_state).opt_state[0]
    assert factored.v_row["layers"]["kernel"] == PartitionSpec()
    assert factored.v["norm"]["scale"] == PartitionSpec(embed)


def test_a_masked_transformation_is_laid_out_too():
    """Its state has holes where other parameters stand."""
    params = {"kernel": _boxed((8, 16), ("embed", "mlp")), "bias": _boxed((8,), ("embed",))}
    optimizer = optax.masked(optax.trace(0.9), {"kernel": True, "bias": False})
    trace = init_state(optimizer, params).inner_state.trace
    assert trace["kernel"].names == ("embed", "mlp")
    assert trace["bias"] == optax.MaskedNode()
