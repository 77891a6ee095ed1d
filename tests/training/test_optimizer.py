"""Tests of codet5p_jax.training.optimizer, against torch's AdamW."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from codet5p_jax.training.optimizer import adamw, decayed, linear_schedule


def test_schedule_warms_up_and_decays_to_zero():
    schedule = linear_schedule(peak_learning_rate=0.2, warmup_steps=4, total_steps=10)
    rates = [float(schedule(step)) for step in (0, 2, 4, 7, 10)]
    np.testing.assert_allclose(rates, [0.0, 0.1, 0.2, 0.1, 0.0], atol=1e-7)


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match=r"warmup_steps is 10, but the run has 10 steps"):
        linear_schedule(peak_learning_rate=0.2, warmup_steps=10, total_steps=10)


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


def test_five_updates_match_torchs_adamw_with_clipping():
    numbers = np.random.default_rng(0)
    start = numbers.normal(size=(3, 4)).astype(np.float32)
    gradients = numbers.normal(size=(5, 3, 4)).astype(np.float32)
    optimizer = adamw(lambda step: 0.01, weight_decay=0.1, max_gradient_norm=1.0)

    params = {"kernel": jnp.asarray(start)}
    state = optimizer.init(params)
    weight = torch.nn.Parameter(torch.tensor(start))
    peer = torch.optim.AdamW([weight], lr=0.01, weight_decay=0.1)
    for gradient in gradients:
        updates, state = optimizer.update({"kernel": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        weight.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_([weight], 1.0)
        peer.step()

    np.testing.assert_allclose(params["kernel"], weight.detach().numpy(), rtol=1e-5, atol=1e-6)
