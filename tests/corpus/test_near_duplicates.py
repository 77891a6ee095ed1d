"""Tests of codet5p_jax.corpus.near_duplicates, against Jaccard similarities of Python sets."""

import itertools
import re

import numpy as np
import pytest

from codet5p_jax.corpus import near_duplicates


def _words(seed, count=200):
    rng = np.random.default_rng(seed)
    return [f"w{n}" for n in rng.integers(0, 10_000, count)]


def _jaccard(one, other):
    sets = []
    for code in (one, other):
        words = re.findall(r"\w+", code)
        sets.append({tuple(words[i : i + 5]) for i in range(len(words) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def _changed(words, share, seed):
    rng = np.random.default_rng(seed)
    return [f"x{i}" if rng.random() < share else word for i, word in enumerate(words)]


def _signatures(*codes):
    return near_duplicates.signatures([near_duplicates.word_grams(code) for code in codes])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.03, 0.06, 0.2])
def test_equal_numbers_of_signatures_estimate_the_jaccard_similarity(share):
    for seed in range(5):
        words = _words(seed)
        one, other = " ".join(words), " ".join(_changed(words, share, seed))
        signature = _signatures(one, other)
        # Of 256 numbers: the standard error of the estimate is at most 0.031.
        estimate = np.mean(signature[0] == signature[1])
        assert estimate == pytest.approx(_jaccard(one, other), abs=4 * 0.031)


def test_punctuation_and_space_do_not_count():
    one = "int add(int a, int b) { return a + b + c + d + e + f; }"
    other = "int add( int a, int b )\n{\n  return a+b+c+d+e+f;\n}"
    assert np.array_equal(*_signatures(one, other))


def test_texts_of_under_ten_words_have_no_grams():
    assert len(near_duplicates.word_grams("a b c d e f g h i")) == 0
    assert len(near_duplicates.word_grams("a b c d e f g h i j")) == 6


def test_similar_records_share_a_bucket_and_others_do_not():
    words = _words(0)
    copies = [" ".join(_changed(words, 0.005, seed)) for seed in range(20)]
    others = [" ".join(_words(seed)) for seed in range(1, 21)]
    bands = near_duplicates.band_hashes(_signatures(" ".join(words), *copies, *others))
    shared = (bands == bands[:, :1]).any(axis=0)
    similar = [_jaccard(" ".join(words), copy) >= 0.8 for copy in copies]
    assert sum(similar) >= 15
    assert np.mean(shared[1:21][similar]) >= 0.8  # 94% expected at 0.8, more above
    assert not shared[21:].any()


def test_signatures_are_the_same_however_many_are_made_at_once(monkeypatch):
    codes = [" ".join(_words(seed)) for seed in range(7)] + ["short"]
    whole = _signatures(*codes)
    monkeypatch.setattr(near_duplicates, "_SIGNED_AT_ONCE", 3)
    np.testing.assert_array_equal(_signatures(*codes), whole)


def test_pairs_name_the_first_of_each_bucket():
    buckets = np.array([7, 5, 7, 7, 6], np.uint64)
    ranks = np.array([30, 1, 10, 20, 2], np.uint64)
    for order in itertools.permutations(range(5)):
        pairs = near_duplicates.pairs_in_buckets(buckets[list(order)], ranks[list(order)])
        assert sorted(map(tuple, pairs.tolist())) == [(20, 10), (30, 10)]


def test_no_records_have_no_pairs_and_no_signatures():
    empty = np.zeros(0, np.uint64)
    assert near_duplicates.pairs_in_buckets(empty, empty).shape == (0, 2)
    assert near_duplicates.signatures([]).shape == (0, 256)


def test_pairs_resemble_each_other_from_seven_tenths_on():
    one = np.zeros([2, 256], np.uint16)
    other = one.copy()
    other[0, :76] = 1  # 180 of 256 are equal: 0.703
    other[1, :77] = 1  # 0.699
    assert near_duplicates.resemble(one, other).tolist() == [True, False]
