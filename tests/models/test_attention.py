import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.decoding.generate import generate
from codet5p_jax.kernels.attention_mask import AttentionMask
from codet5p_jax.kernels.fused_attention import fused_attention
from codet5p_jax.kernels.position_bias import PositionBias
from codet5p_jax.kernels.xla_attention import xla_attention
from codet5p_jax.models import attention
from codet5p_jax.models.attention import Attention, bias_for, dot_product_attention
from codet5p_jax.models.codet5p import CodeT5p


def _module(**changes):
    sizes = {"num_heads": 3, "head_dim": 8, "embed_dim": 16, "dropout_rate": 0.0}
    return Attention(**sizes | changes)


def _attend(module, x, source, *, mask, bias, keep=None):
    return module(x, module.keys_and_values(source), mask=mask, bias=bias, keep=keep)


def _layer(oracle, stack, name, index=0):
    tree = oracle.params[stack]["layers"][name]
    return {"params": jax.tree.map(lambda leaf: leaf[index], tree)}


def test_self_attention_equals_transformers(oracle, rng):
    import torch

    x = jax.random.normal(rng, [2, 6, 16])
    attention = oracle.torch_model.encoder.block[0].layer[0].SelfAttention
    theirs = attention(torch.tensor(np.asarray(x)))[0].detach()
    table = oracle.params["encoder"]["relative_position_bias"]["embedding"]
    bias = PositionBias(table=table, max_distance=12)
    ours = _module().apply(
        _layer(oracle, "encoder", "attention"),
        x,
        x,
        mask=AttentionMask(),
        bias=bias,
        method=_attend,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_cross_attention_equals_transformers(oracle, rng):
    import torch

    x, source = jax.random.normal(rng, [2, 4, 16]), jax.random.normal(rng, [2, 7, 16])
    attention = oracle.torch_model.decoder.block[0].layer[1].EncDecAttention
    theirs = attention(
        torch.tensor(np.asarray(x)), key_value_states=torch.tensor(np.asarray(source))
    )[0].detach()
    ours = _module().apply(
        _layer(oracle, "decoder", "cross_attention"),
        x,
        source,
        mask=AttentionMask(),
        bias=None,
        method=_attend,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_dropped_key_is_missing_from_every_query(oracle, rng):
    """Of equal weights, what is left is the mean of all keys' values, the kept ones doubled."""
    variables = _layer(oracle, "encoder", "attention")
    source = jax.random.normal(rng, [1, 7, 16])
    x = jnp.zeros([1, 4, 16])  # all queries weigh all keys the same
    keep = jnp.ones([1, 3, 7], bool).at[0, :, jnp.array([1, 4])].set(False)
    module = _module(dropout_rate=0.5)
    dropped = module.apply(
        variables, x, source, mask=AttentionMask(), bias=None, keep=keep, method=_attend
    )
    kernels = variables["params"]
    values = np.asarray(source[0] @ kernels["value"]["kernel"])
    mean = np.delete(values, [1, 4], axis=0).sum(0) * 2 / 7
    expected = np.broadcast_to(mean @ kernels["out"]["kernel"], [1, 4, 16])
    np.testing.assert_allclose(dropped, expected, rtol=1e-5, atol=1e-5)


def test_any_function_can_attend(rng):
    def first_key(query, key, value, *, mask, bias):
        return jnp.broadcast_to(value[:, :1], query.shape)

    x = jax.random.normal(rng, [1, 4, 16])
    module = _module(attention=first_key)
    out, _ = module.init_with_output(rng, x, x, mask=AttentionMask(), bias=None, method=_attend)
    np.testing.assert_array_equal(out[:, 0], out[:, 3])


def test_a_bias_is_spread_once_for_those_who_need_a_matrix(monkeypatch):
    bias = PositionBias(table=jnp.arange(24.0).reshape(8, 3), max_distance=12)
    spread = bias_for(dot_product_attention, bias, 5, 7)
    np.testing.assert_array_equal(spread, bias.matrix(5, 7))
    assert bias_for(fused_attention, bias, 5, 7) is bias
    monkeypatch.setattr(attention, "platform", lambda: "tpu")
    monkeypatch.setattr(attention, "knows_devices", lambda: True)
    assert bias_for(dot_product_attention, bias, 5, 7) is bias
    next_token = bias.replace(query_offset=jnp.int32(0))
    np.testing.assert_array_equal(bias_for(dot_product_attention, next_token, 5, 7), spread)
    monkeypatch.setattr(attention, "knows_devices", lambda: False)
    np.testing.assert_array_equal(bias_for(dot_product_attention, bias, 5, 7), spread)


@pytest.mark.parametrize(
    ("platform", "serves", "query_length", "offset", "called"),
    [
        ("cpu", True, 4, None, "xla_attention"),
        ("tpu", True, 4, None, "fused_attention"),
        ("tpu", False, 4, None, "xla_attention"),
        ("tpu", True, 1, None, "xla_attention"),
        ("tpu", True, 4, jnp.int32(0), "xla_attention"),
        ("gpu", True, 4, None, "cudnn_attention"),
        ("gpu", False, 4, None, "xla_attention"),
        ("gpu", True, 1, None, "xla_attention"),
    ],
)
def test_each_platform_computes_by_what_is_fastest_there(
    platform, serves, query_length, offset, called, monkeypatch
):
    said = []

    def saying(name):
        def attend(query, key, value, *, keep, dropout_rate, **_):
            said.append((name, keep is given, dropout_rate))
            return query

        return attend

    for name in ("xla_attention", "fused_attention", "cudnn_attention"):
        monkeypatch.setattr(attention, name, saying(name))
    monkeypatch.setattr(attention, "platform", lambda: platform)
    monkeypatch.setattr(attention, "knows_devices", lambda: serves)
    monkeypatch.setattr(attention, "cudnn_serves", lambda query, key: serves)
    query = jnp.zeros([1, query_length, 2, 8], jnp.bfloat16)
    mask = AttentionMask(query_offset=offset)
    given = jnp.ones([1, 2, query_length], bool)
    dot_product_attention(query, query, query, mask=mask, keep=given, dropout_rate=0.1)
    assert said == [(called, True, 0.1)]


@pytest.mark.parametrize("policy", [None, "dots_saveable", "nothing_saveable"])
def test_remat_changes_nothing_of_what_attends(policy, tiny_model, tiny_params, monkeypatch):
    """Remat traces every array of a mask: a static offset must not look like that of a cache."""
    seen = []

    def watching(query, key, value, *, mask, bias):
        seen.append((mask.query_offset, getattr(bias, "query_offset", None)))
        return xla_attention(query, key, value, mask=mask, bias=bias)

    watching.spreads_bias = lambda: True
    policies = jax.checkpoint_policies
    config = dataclasses.replace(
        tiny_model.config,
        attention=watching,
        remat_policy=None if policy is None else getattr(policies, policy),
    )
    tokens = jnp.ones([1, 4], jnp.int32)
    jax.eval_shape(lambda: CodeT5p(config).apply({"params": tiny_params}, tokens, tokens))
    assert set(seen) == {(None, None)} and len(seen) >= 3


@pytest.mark.parametrize("attention", [fused_attention, dot_product_attention])
def test_with_any_function_a_model_decodes(attention, tiny_model, tiny_params):
    model = CodeT5p(dataclasses.replace(tiny_model.config, attention=attention))
    tokens = jnp.array([[5, 6, 7]], jnp.int32)
    written = generate(model, tiny_params, tokens, max_length=4).tokens
    np.testing.assert_array_equal(
        written, generate(tiny_model, tiny_params, tokens, max_length=4).tokens
    )
