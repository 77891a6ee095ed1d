"""Tests of codet5p_jax.retrieval.embed on a tiny random model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.sizes import model_config
from codet5p_jax.retrieval.embed import embed_tokens, similar_length_batches, token_rows
from codet5p_jax.tokenizer import load_tokenizer, train_tokenizer
from tests.codegen_folder import write_codegen_folder


def _model(**changes):
    model = CodeT5p(dataclasses.replace(model_config("codet5p_test"), **changes))
    tokens = jnp.ones([1, 4], jnp.int32)
    return model, nn.unbox(model.init(jax.random.key(0), tokens, tokens))["params"]


def _rows(lengths, width):
    rows = np.zeros([len(lengths), width], np.int32)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = np.random.default_rng(length).integers(5, 400, length)
    return rows


def test_embeddings_come_in_the_order_of_the_rows_and_equal_unbatched_ones():
    model, params = _model()
    tokens = _rows([70, 3, 130, 9, 65], 140)
    embeddings = embed_tokens(model, params, tokens, batch_size=2)
    one_by_one = [
        model.apply({"params": params}, row[None], method="embed")[0] for row in jnp.array(tokens)
    ]
    # float32 sums over padding of another length
    np.testing.assert_allclose(embeddings, one_by_one, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


def test_a_model_without_projection_is_embedded_by_its_first_encoder_state():
    model, params = _model(projection_dim=None)
    tokens = _rows([5, 9], 12)
    states = model.apply({"params": params}, jnp.array(tokens), method="encode")[:, 0]
    expected = states / jnp.linalg.norm(states, axis=1, keepdims=True)
    np.testing.assert_allclose(embed_tokens(model, params, tokens), expected, atol=1e-5)


def test_batches_hold_every_row_and_are_no_longer_than_needed():
    tokens = _rows([70, 3, 130, 9, 65], 140)
    batches = list(similar_length_batches(tokens, batch_size=2, pad_id=0))
    assert [(rows.tolist(), length) for rows, length in batches] == [
        ([1, 3], 64),
        ([4, 0], 128),
        ([2, 2], 140),  # the last row is repeated to fill the batch
    ]


def test_token_rows_keep_the_end_of_sequence_when_they_cut():
    tokenizer = train_tokenizer(["abc"], 261, min_frequency=1)
    rows = token_rows(["ab", "abcdef", ""], tokenizer, length=5)
    a, b, c = (tokenizer.encode(letter)[0] for letter in "abc")
    np.testing.assert_array_equal(rows, [[1, a, b, 2, 0], [1, a, b, c, 2], [1, 2, 0, 0, 0]])


def test_rows_of_codegen_end_in_its_padding_and_an_exclamation_mark_is_none(tmp_path):
    codegen = load_tokenizer(write_codegen_folder(tmp_path, ["a!"], vocab_size=260))
    rows = token_rows(["!!", "a"], codegen, length=5)
    end, pad, a = codegen.eos_id, codegen.pad_id, codegen.encode("a")[0]
    np.testing.assert_array_equal(rows, [[end, 0, 0, end, pad], [end, a, end, pad, pad]])
    [(order, length)] = similar_length_batches(
        np.pad(rows, ((0, 0), (0, 95)), constant_values=pad), batch_size=2, pad_id=pad
    )
    assert (order.tolist(), length) == ([1, 0], 64)


def test_token_rows_need_room_for_one_token():
    tokenizer = train_tokenizer(["abc"], 261, min_frequency=1)
    with pytest.raises(ValueError, match=r"at least 3.*got 2"):
        token_rows(["ab"], tokenizer, length=2)
