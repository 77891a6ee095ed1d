"""Tests of codet5p_jax.retrieval.search, against full sorts and values worked out by hand."""

import itertools

import numpy as np
import pytest

from codet5p_jax.retrieval.search import (
    random_mean_reciprocal_rank,
    reciprocal_ranks,
    reciprocal_ranks_by_cosine,
    top_k,
)


def _unit_vectors(seed, rows, dim=6):
    vectors = np.random.default_rng(seed).normal(size=[rows, dim]).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("block_size", [1, 7, 23, 100])
def test_top_k_equals_a_full_sort_whatever_the_blocks(block_size):
    queries, codes = _unit_vectors(0, 5), _unit_vectors(1, 23)
    scores, indices = top_k(queries, codes, k=4, block_size=block_size)
    cosines = queries @ codes.T
    np.testing.assert_array_equal(indices, np.argsort(-cosines, axis=1)[:, :4])
    # float32 sums of 6 products in another order
    np.testing.assert_allclose(scores, -np.sort(-cosines, axis=1)[:, :4], atol=1e-6)


def test_top_k_prefers_the_lower_row_number_among_equals():
    codes = np.tile(np.float32([[1.0, 0.0]]), [5, 1])
    _, indices = top_k(codes[:1], codes, k=3, block_size=2)
    np.testing.assert_array_equal(indices, [[0, 1, 2]])


@pytest.mark.parametrize("k", [0, 4])
def test_top_k_says_how_many_codes_there_are(k):
    with pytest.raises(ValueError, match=rf"k={k} of 3 codes.*1\.\.3"):
        top_k(_unit_vectors(0, 1), _unit_vectors(1, 3), k=k)


def test_reciprocal_ranks_by_hand():
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.9, 0.5, 0.1]])
    np.testing.assert_allclose(reciprocal_ranks(scores, np.array([0, 1, 2])), [1, 1 / 2, 1 / 3])


def test_reciprocal_rank_of_ties_is_the_mean_over_all_their_orders():
    scores = np.array([[3.0, 1.0, 1.0, 1.0, 0.0]])
    orders = itertools.permutations([1, 2, 3])  # of the tied codes; ranks 2, 3, 4
    expected = np.mean([1 / (2 + order.index(2)) for order in orders])
    np.testing.assert_allclose(reciprocal_ranks(scores, np.array([2])), [expected])


def test_constant_scores_earn_what_a_random_order_earns():
    ranks = reciprocal_ranks(np.zeros([4, 10]), np.arange(4))
    np.testing.assert_allclose(ranks, random_mean_reciprocal_rank(10))


def test_random_order_earns_its_exact_expectation():
    rng = np.random.default_rng(0)
    draws = reciprocal_ranks(rng.random([20_000, 50]), rng.integers(50, size=20_000))
    # standard error of the mean of 20,000 draws is 0.0011
    assert abs(draws.mean() - random_mean_reciprocal_rank(50)) < 0.004


def test_reciprocal_ranks_by_cosine_do_not_depend_on_the_block(monkeypatch):
    queries, codes = _unit_vectors(0, 30), _unit_vectors(1, 30)
    whole = reciprocal_ranks_by_cosine(queries, codes, np.arange(30))
    monkeypatch.setattr("codet5p_jax.retrieval.search.MAX_BLOCK_SCORES", 100)
    np.testing.assert_array_equal(reciprocal_ranks_by_cosine(queries, codes, np.arange(30)), whole)


def test_reciprocal_ranks_name_the_query_without_a_code():
    with pytest.raises(ValueError, match=r"0\.\.2; got 3 for query 1"):
        reciprocal_ranks(np.zeros([2, 3]), np.array([0, 3]))


def test_an_empty_code_base_has_no_expected_rank():
    with pytest.raises(ValueError, match="at least one code; got 0"):
        random_mean_reciprocal_rank(0)
