"""Tests of codet5p_jax.decoding.streaming: token by token equals all at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codet5p_jax.decoding.generate import generate
from codet5p_jax.decoding.sampling import Sampler
from codet5p_jax.decoding.streaming import stream
from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.codet5p import CodeT5p, fresh_params
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig

HALF = CodeGenConfig(
    vocab_size=128, embed_dim=32, num_layers=2, num_heads=4, rotary_dim=4, mlp_dim=64
)
IDS = {"pad_id": 127, "start_id": 126, "eos_id": 126, "clm_id": 125, "match_id": 124}
PROMPT = [7, 0, 9, 8]  # id 0 is a token of CodeGen's


@pytest.fixture(scope="module", params=["t5", "codegen"])
def drawn(request, tiny_model):
    model = tiny_model
    if request.param == "codegen":
        model = CodeT5p(EncoderDecoderConfig(encoder=HALF, decoder=HALF, **IDS))
    params = nn.unbox(jax.jit(functools.partial(fresh_params, model))(jax.random.key(3)))
    return model, jax.tree.map(lambda leaf: 3 * leaf, params)  # greedy choices that differ


def test_tokens_are_those_of_generate(drawn):
    model, params = drawn
    config = model.config
    prompt = [token or 5 for token in PROMPT] if config.pad_id == 0 else PROMPT
    inputs = jnp.array([[5, 6, 7, 8, 9]], jnp.int32)
    whole = generate(model, params, inputs, max_length=24, prompt=jnp.array([prompt]))
    expected = whole.tokens[0, len(prompt) : int(whole.lengths[0])].tolist()
    expected = [token for token in expected if token != config.eos_id]
    streamed = stream(model, params, [5, 6, 7, 8, 9], prompt=prompt, max_new_tokens=20)
    assert list(streamed) == expected and expected


def test_no_more_tokens_come_than_asked_for(drawn):
    model, params = drawn
    assert len(list(stream(model, params, [5], max_new_tokens=3))) <= 3


def test_a_sampler_draws_alike_from_the_same_key(drawn):
    model, params = drawn
    draw = functools.partial(stream, model, params, [5, 6], sample=Sampler(), max_new_tokens=12)
    first, again, other = (list(draw(rng=jax.random.key(seed))) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_first_token_is_there_before_the_last_is_computed(drawn):
    model, params = drawn
    calls = []

    def watched(logits, rng):
        calls.append(1)
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    tokens = stream(model, params, [5, 6], sample=watched, max_new_tokens=50)
    next(tokens)
    assert np.sum(calls) == 1
