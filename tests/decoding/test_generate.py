import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codet5p_jax.decoding.generate import generate
from codet5p_jax.decoding.sampling import Sampler
from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.sizes import model_config

INPUTS = np.array([[1, 40, 41, 42, 43, 2], [1, 50, 2, 0, 0, 0], [1, 60, 61, 2, 0, 0]], np.int32)
PROMPTS = np.array([[1, 7, 8], [1, 0, 0], [9, 4, 0]], np.int32)
LENGTH = 9


@pytest.fixture(scope="module")
def model():
    return CodeT5p(dataclasses.replace(model_config("codet5p_test"), dropout_rate=0.0))


@pytest.fixture(scope="module")
def params(model):
    return nn.unbox(jax.jit(model.init)(jax.random.key(1), jnp.array(INPUTS), jnp.array(INPUTS)))[
        "params"
    ]


@pytest.fixture(scope="module")
def greedy_without_cache(model, params):
    """Slow and obvious: a whole forward pass per token, one row at a time."""
    logits = jax.jit(lambda *tokens: model.apply({"params": params}, *tokens))

    def continue_row(inputs, prompt, *, eos_id):
        tokens = [int(token) for token in prompt if token]
        while len(tokens) < LENGTH:
            padded = np.zeros([1, LENGTH], np.int32)  # what lies behind is in nobody's past
            padded[0, 1 : len(tokens) + 1] = tokens
            likeliest = logits(jnp.array(inputs)[None], jnp.array(padded))[0, len(tokens)].argmax()
            tokens.append(int(likeliest))
            if tokens[-1] == eos_id:
                break
        return tokens

    return continue_row


def test_cached_greedy_equals_a_full_pass_per_token_for_padded_inputs_and_uneven_prompts(
    model, params, greedy_without_cache
):
    got = generate(model, params, INPUTS, max_length=LENGTH, prompt=PROMPTS)
    for row, (inputs, prompt) in enumerate(zip(INPUTS, PROMPTS, strict=True)):
        expected = greedy_without_cache(inputs, prompt, eos_id=2)
        assert got.tokens[row, : got.lengths[row]].tolist() == expected


def test_a_row_stops_at_eos_and_is_padded_behind_while_the_others_go_on(
    model, params, greedy_without_cache
):
    free = generate(model, params, INPUTS, max_length=LENGTH, prompt=PROMPTS)
    eos_id = int(free.tokens[1, 3])  # what row 1 says behind its prompt, taken for `</s>`
    got = generate(model, params, INPUTS, max_length=LENGTH, prompt=PROMPTS, eos_id=eos_id)
    for row, (inputs, prompt) in enumerate(zip(INPUTS, PROMPTS, strict=True)):
        expected = greedy_without_cache(inputs, prompt, eos_id=eos_id)
        assert got.tokens[row].tolist() == expected + [0] * (LENGTH - len(expected))
        assert got.lengths[row] == len(expected)
    assert len(set(got.lengths.tolist())) > 1


def test_eos_inside_a_prompt_does_not_end_the_row(model, params):
    prompts = np.array([[1, 2, 8], [1, 2, 2], [2, 4, 0]], np.int32)
    got = generate(model, params, INPUTS, max_length=LENGTH, prompt=prompts)
    assert (got.lengths > 3).all()
    np.testing.assert_array_equal(got.tokens[:2, :3], prompts[:2])


def test_samples_of_an_input_stand_together_and_differ(model, params, rng):
    sampler = Sampler(temperature=5.0)
    got = generate(
        model, params, INPUTS, max_length=LENGTH, sample=sampler, prompt=PROMPTS, samples=4, rng=rng
    )
    assert got.tokens.shape == (12, LENGTH)
    for row, prompt in enumerate(np.repeat(PROMPTS, 4, axis=0)):
        given = prompt[prompt != 0]
        np.testing.assert_array_equal(got.tokens[row, : given.size], given)
    assert len({tuple(tokens) for tokens in got.tokens[:4].tolist()}) == 4


def test_equal_randomness_gives_equal_samples(model, params):
    draw = lambda seed: generate(  # noqa: E731
        model,
        params,
        INPUTS,
        max_length=LENGTH,
        sample=Sampler(temperature=5.0),
        rng=jax.random.key(seed),
    ).tokens.tolist()
    assert draw(3) == draw(3) != draw(4)


def test_greedy_samples_of_an_input_are_equal(model, params):
    one = generate(model, params, INPUTS, max_length=LENGTH)
    two = generate(model, params, INPUTS, max_length=LENGTH, samples=2)
    np.testing.assert_array_equal(two.tokens, np.repeat(one.tokens, 2, axis=0))
    np.testing.assert_array_equal(two.lengths, np.repeat(one.lengths, 2))


def test_a_prompt_that_fills_max_length_is_returned_as_it_is(model, params):
    got = generate(model, params, INPUTS[:1], max_length=3, prompt=PROMPTS[:1])
    assert got.tokens.tolist() == [[1, 7, 8]]
    assert got.lengths.tolist() == [3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": PROMPTS[:2]}, "The prompt has 2 rows, the encoder's input 3"),
        ({"prompt": PROMPTS, "max_length": 2}, "The prompt takes 3 tokens of max_length=2"),
        ({"samples": 0}, "samples is 0, expected 1 or more"),
    ],
)
def test_wrong_arguments_are_named(model, params, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(model, params, INPUTS, **{"max_length": LENGTH, **arguments})
