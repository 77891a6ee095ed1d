"""Tests of codet5p_jax.retrieval.rerank."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.sizes import model_config
from codet5p_jax.retrieval.rerank import match_probabilities, rerank, reranked_reciprocal_ranks


def _model():
    model = CodeT5p(model_config("codet5p_test"))
    tokens = jnp.ones([1, 4], jnp.int32)
    params = nn.unbox(model.init(jax.random.key(0), tokens, tokens))["params"]
    # a head of the usual size gives probabilities that differ in the fourth digit
    params["matching_head"]["kernel"] = params["matching_head"]["kernel"] * 50
    return model, params


def _rows(lengths, width, seed):
    rng = np.random.default_rng(seed)
    rows = np.zeros([len(lengths), width], np.int32)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = rng.integers(5, 400, length)
        row[0], row[length - 1] = 1, 2
    return rows


def test_match_probabilities_equal_those_of_the_model_pair_by_pair():
    model, params = _model()
    texts, codes = _rows([4, 9, 6], 10, seed=0), _rows([70, 5, 90, 20], 100, seed=1)
    pairs = np.array([[0, 0], [2, 3], [1, 1], [0, 2], [2, 0]])
    found = match_probabilities(
        model, params, texts, codes, pairs, match_id=model.config.match_id, batch_size=2
    )
    for probability, (text, code) in zip(found, pairs, strict=True):
        logits = model.apply(
            {"params": params}, jnp.array(texts[[text]]), jnp.array(codes[[code]]), method="match"
        )
        # float32 through two layers over padding of another length
        np.testing.assert_allclose(probability, jax.nn.softmax(logits)[0, 1], atol=1e-5)
    assert np.ptp(found) > 1e-3  # they do differ


def test_matching_needs_a_matching_head():
    model = CodeT5p(dataclasses.replace(model_config("codet5p_test"), matching_head=False))
    rows = _rows([4], 5, seed=0)
    with pytest.raises(ValueError, match=r"no matching head.*stage 2"):
        match_probabilities(model, {}, rows, rows, np.array([[0, 0]]), match_id=500)


def test_rerank_orders_by_match_probability_plus_cosine():
    scores, order = rerank(
        np.float32([[0.1, 0.9, 0.2]]), np.float32([[0.8, 0.5, 0.7]]), np.array([[7, 8, 9]])
    )
    np.testing.assert_array_equal(order, [[8, 7, 9]])  # 1.4, then 0.9 twice in the old order
    np.testing.assert_allclose(scores, [[1.4, 0.9, 0.9]], rtol=1e-6)


def test_reranked_ranks_keep_a_code_that_was_no_candidate_behind_them():
    ranks = reranked_reciprocal_ranks(
        np.float32([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]),
        np.float32([[0.5, 0.4], [0.5, 0.4], [0.5, 0.4]]),
        np.array([[3, 0], [4, 5], [2, 9]]),
        np.array([0, 1, 2]),
        before=np.array([1 / 2, 1 / 7, 1.0]),
    )
    np.testing.assert_allclose(ranks, [1, 1 / 7, 1])
