"""What is handed to cuDNN, computed by jax.nn's own XLA, for want of a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("scale", [None, 0.5])
def test_it_computes_what_xla_does(rng, mask, scale):
    query, key, value = jax.random.normal(rng, [3, 2, 6, 4, 8])
    bias = PositionBias(table=jax.random.normal(rng, [8, 4]), max_distance=5)
    ours = cudnn_attention(
        query, key, value, mask=mask, bias=bias, scale=scale, implementation="xla"
    )
    theirs = xla_attention(query, key, value, mask=mask, bias=bias, scale=scale)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "length", "head_dim", "biased", "serves"),
    [
        ("bfloat16", 6, 64, True, True),
        ("float32", 6, 64, True, False),
        ("bfloat16", 6, 256, True, False),
        ("bfloat16", 6, 20, True, False),
        ("bfloat16", 7, 64, True, False),
        ("bfloat16", 7, 64, False, True),
    ],
)
def test_what_cudnn_does_not_serve_is_known_beforehand(dtype, length, head_dim, biased, serves):
    query = jnp.zeros([2, length, 4, head_dim], dtype)
    assert cudnn_serves(query, query, biased=biased) == serves
