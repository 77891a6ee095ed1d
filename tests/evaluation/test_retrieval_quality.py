"""Tests of codet5p_jax.evaluation.retrieval_quality."""

import numpy as np
import pytest

from codet5p_jax.evaluation.retrieval_quality import (
    Embedded,
    TokenizedPairs,
    bm25_row,
    embed_pairs,
    embedding_row,
    hard_negatives,
    matching_rows,
    random_negatives,
    random_row,
    reranked_row,
)

LANGUAGES = ["go", "c", "go", "c", "go", "c"]
MATCH_ID = 500


def _pairs(seed=0):
    rng = np.random.default_rng(seed)
    text, code = rng.integers(5, 400, [2, 6, 9]).astype(np.int32)
    text[:, 0], code[:, 0], text[:, -1], code[:, -1] = 1, 1, 2, 2
    return TokenizedPairs(text_tokens=text, code_tokens=code, languages=LANGUAGES)


def _perfect():
    return Embedded(texts=np.eye(6, dtype=np.float32), codes=np.eye(6, dtype=np.float32))


def test_random_row_is_exact_and_the_same_for_every_language():
    row = random_row(LANGUAGES)
    expected = sum(1 / k for k in range(1, 7)) / 6
    for name, count in (("all", 6), ("go", 3), ("c", 3)):
        estimate = row["mrr"][name]
        assert estimate["mean"] == estimate["low"] == estimate["high"] == pytest.approx(expected)
        assert estimate["count"] == count


def test_bm25_finds_codes_by_their_words():
    texts = ["read the file", "send mail", "sort numbers"]
    codes = ["def readFile(): pass", "def send_mail(): pass", "def sortNumbers(): pass"]
    row = bm25_row(texts, codes, ["go", "c", "go"])
    assert row["mrr"]["all"]["mean"] == 1 and row["codes"] == 3


def test_embedding_row_of_perfect_embeddings_is_one_and_of_equal_ones_is_random():
    assert embedding_row("after", _perfect(), LANGUAGES)["mrr"]["all"]["mean"] == 1
    equal = Embedded(texts=np.ones([6, 1], np.float32), codes=np.ones([6, 1], np.float32))
    row = embedding_row("after", equal, LANGUAGES)
    assert row["mrr"]["all"]["mean"] == pytest.approx(random_row(LANGUAGES)["mrr"]["all"]["mean"])


def test_fewer_texts_still_search_the_whole_code_base():
    row = embedding_row("after", _perfect(), LANGUAGES[:2], note="some")
    assert (row["queries"], row["codes"], row["note"]) == (2, 6, "some")


def test_reranking_keeps_the_code_base_and_counts_the_queries(trained):
    pairs = _pairs()
    embedded = embed_pairs(trained, pairs)
    row = reranked_row(trained, embedded, pairs, queries=4, candidates=32, match_id=MATCH_ID)
    assert (row["queries"], row["codes"]) == (4, 6)
    assert 1 / 6 <= row["mrr"]["all"]["mean"] <= 1
    assert "nearest 6 codes" in row["note"]  # there are no 32


def test_matching_rows_share_their_positives(trained):
    pairs = _pairs()
    embedded = embed_pairs(trained, pairs)
    random, hard = matching_rows(trained, embedded, pairs, texts=99, match_id=MATCH_ID, seed=0)
    assert (random["negatives"], hard["negatives"]) == ("random", "hard")
    assert random["positives_accepted"] == hard["positives_accepted"]
    assert random["accuracy"]["count"] == 6


def test_random_negatives_are_never_the_own_code_and_all_others_occur():
    draws = np.stack([random_negatives(5, 5, seed=seed) for seed in range(200)])
    assert not (draws == np.arange(5)).any()
    for text in range(5):
        assert set(draws[:, text]) == set(range(5)) - {text}


def test_hard_negatives_are_the_nearest_wrong_codes():
    codes = np.float32([[1, 0], [0.8, 0.6], [0, 1]])
    texts = np.float32([[1, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal(hard_negatives(Embedded(texts=texts, codes=codes), 3), [1, 0, 1])


def test_a_single_code_has_no_negative():
    with pytest.raises(ValueError, match="second code; the code base holds 1"):
        random_negatives(1, 1, seed=0)
