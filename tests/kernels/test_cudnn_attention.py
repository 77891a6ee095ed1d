"""What is handed to cuDNN, computed by jax.nn's own XLA, for want of a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.kernels import cudnn_attention as module
from codet5p_jax.kernels.attention_mask import AttentionMask
from codet5p_jax.kernels.cudnn_attention import cudnn_attention, cudnn_serves
from codet5p_jax.kernels.position_bias import PositionBias
from codet5p_jax.kernels.xla_attention import xla_attention

SEGMENTS = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]], np.int32)
MASKS = {
    "none": AttentionMask(),
    "padding": AttentionMask(key_segments=SEGMENTS),
    "packed": AttentionMask(key_segments=SEGMENTS, query_segments=SEGMENTS, causal=True),
}


@pytest.mark.parametrize(
    ("masked", "biased"), [("none", "spread"), ("padding", "table"), ("packed", "none")]
)
def test_it_computes_what_xla_does_gradients_too(rng, masked, biased):
    inputs = jax.random.normal(rng, [3, 2, 6, 4, 8])
    keep = jax.random.bernoulli(rng, 0.5, [2, 4, 6])
    of_both = {"mask": MASKS[masked], "scale": 0.5, "keep": keep, "dropout_rate": 0.5}

    def by(attention, **fields):
        def total(inputs, table):
            bias = PositionBias(table=table, max_distance=5)
            given = {"spread": bias.matrix(6, 6), "table": bias, "none": None}[biased]
            return jnp.sum(jnp.sin(attention(*inputs, bias=given, **of_both, **fields)))

        table = jax.random.normal(rng, [8, 4])
        return jax.value_and_grad(total, argnums=(0, 1))(inputs, table)

    ours, theirs = by(cudnn_attention, implementation="xla"), by(xla_attention)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


@pytest.mark.parametrize(
    ("dtype", "length", "head_dim", "capability", "serves"),
    [
        ("bfloat16", 6, 64, 8.0, True),
        ("float32", 6, 64, 8.0, False),
        ("bfloat16", 6, 256, 8.0, False),
        ("bfloat16", 6, 20, 8.0, False),
        ("bfloat16", 7, 64, 8.0, False),
        ("bfloat16", 6, 64, 7.5, False),
    ],
)
def test_what_cudnn_does_not_serve_is_known_beforehand(
    dtype, length, head_dim, capability, serves, monkeypatch
):
    monkeypatch.setattr(module, "compute_capability", lambda: capability)
    query = jnp.zeros([2, length, 4, head_dim], dtype)
    assert cudnn_serves(query, query) == serves
