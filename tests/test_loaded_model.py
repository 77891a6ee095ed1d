"""Tests of codet5p_jax.loaded_model: every mode from texts, against the network itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.decoding.sampling import Sampler
from codet5p_jax.interop.huggingface import export_model
from codet5p_jax.loaded_model import load_model
from tests.tiny_checkpoint import model_dir  # noqa: F401

TEXTS = ["returns the values", "mean"]
CODES = ["def mean(values):\n    return values\n", "return"]


@pytest.fixture(scope="module")
def loaded(model_dir):  # noqa: F811
    return load_model(model_dir)


def test_tokens_are_padded_to_the_longest_and_cut(loaded):
    tokens = loaded.tokens(CODES)
    lengths = [len(loaded.tokenizer.encode(code)) + 2 for code in CODES]
    assert tokens.shape == (2, max(lengths))
    assert (tokens[:, 0] == 1).all() and tokens[1, lengths[1] - 1] == 2
    assert not tokens[1, lengths[1] :].any()
    assert loaded.tokens(CODES, length=5).shape == (2, 5)


def test_embeddings_are_those_of_the_network(loaded):
    each = [loaded.bound.embed(jnp.asarray(loaded.tokens([code])))[0] for code in CODES]
    np.testing.assert_allclose(loaded.embed(CODES), np.stack(each), rtol=1e-4, atol=1e-5)


def test_match_is_the_probability_of_the_second_class(loaded):
    scores = loaded.bound.match(
        jnp.asarray(loaded.tokens(TEXTS)), jnp.asarray(loaded.tokens(CODES))
    )
    wanted = 1 / (1 + np.exp(scores[:, 0] - scores[:, 1]))
    np.testing.assert_allclose(loaded.match(TEXTS, CODES), wanted, rtol=1e-4)


def test_several_texts_at_once_give_what_each_gives_alone(loaded):
    for task in ("complete", "continue", "code_to_text"):
        both = loaded.generate(CODES, task=task, max_length=6)
        assert both == [loaded.generate([code], task=task, max_length=6)[0] for code in CODES]


def test_greedy_continuation_takes_the_likeliest_token_of_decode_only(loaded):
    text = "def mean"
    prompt = [0, 1, *loaded.tokenizer.encode(text)]  # decoder start, <s>
    logits = loaded.bound.decode_only(jnp.asarray([prompt], jnp.int32))
    first = loaded.tokenizer.decode([int(logits[0, -1].argmax())], skip_special_tokens=False)
    assert loaded.generate([text], task="continue", max_length=1) == [first]


def test_samples_come_text_by_text(loaded):
    sampler, rng = Sampler(temperature=0.5), jax.random.key(3)
    results = loaded.generate(CODES, sample=sampler, samples=3, max_length=4, rng=rng)
    assert len(results) == 6
    assert len(set(results)) > 2


def test_an_export_gives_the_same_as_the_model_dir(loaded, tmp_path):
    config = loaded.model.config
    export_model(loaded.params, config, tokenizer=loaded.tokenizer, out_dir=tmp_path / "exported")
    exported = load_model(tmp_path / "exported")
    assert exported.tokenizer.fingerprint == loaded.tokenizer.fingerprint
    tokens = jnp.asarray(loaded.tokens(CODES))
    np.testing.assert_array_equal(exported.bound.encode(tokens), loaded.bound.encode(tokens))
    with pytest.raises(ValueError, match="Hugging Face format, which has no steps; leave step=3"):
        load_model(tmp_path / "exported", step=3)


def test_as_many_codes_as_texts_are_needed(loaded):
    with pytest.raises(ValueError, match="match got 2 texts and 1 codes; give one code per text"):
        loaded.match(TEXTS, CODES[:1])


def test_an_unknown_task_is_an_error(loaded):
    with pytest.raises(ValueError, match="no task 'summarise'; it is one of denoise, complete"):
        loaded.generate(CODES, task="summarise")


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint.*Give the MODEL_DIR"):
        load_model(tmp_path)
