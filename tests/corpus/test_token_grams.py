"""Tests of codet5p_jax.corpus.token_grams, against a regular expression and sets of tuples."""

import itertools
import re
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codet5p_jax.corpus.token_grams import TOKENS_IN_GRAM, distinct_names, token_grams

TOKEN = re.compile(rb"\w+|[^\w\s]")
PIECES = st.sampled_from(
    [
        *(b"a", b"ab", b"x1", b"abcdefgh", b"abcdefghi", b"i" * 16, b"7", b"_", b"(", b")"),
        *(b" ", b"\n", b"\x0b", b"\x00", "é".encode()),
    ]
)
TEXTS = st.lists(st.lists(PIECES, max_size=40).map(b"".join), min_size=1, max_size=4)


def _tuples(text):
    tokens = TOKEN.findall(text)
    return [tuple(tokens[i : i + TOKENS_IN_GRAM]) for i in range(len(tokens) - TOKENS_IN_GRAM + 1)]


def _grams(texts):
    """The hashes of each text's own grams."""
    found = token_grams(texts)
    owners = found.owners(np.arange(len(found.grams)))
    return [found.grams[owners == number].tolist() for number in range(len(texts))]


@given(TEXTS)
def test_grams_are_equal_where_thirteen_tokens_are(texts):
    expected = [_tuples(text) for text in texts]
    found = _grams(texts)
    assert [len(own) for own in found] == [len(own) for own in expected]
    pairs = set(zip(itertools.chain(*found), itertools.chain(*expected), strict=True))
    assert len(pairs) == len({gram for gram, _ in pairs}) == len({tokens for _, tokens in pairs})


@given(TEXTS)
def test_names_are_different_words_that_start_with_a_letter(texts):
    counts = distinct_names(texts)
    owners = token_grams(texts).owners(np.arange(len(counts)))
    expected = [
        len({token for token in gram if re.match(rb"[A-Za-z_]", token)})
        for text in texts
        for gram in _tuples(text)
    ]
    assert counts[owners >= 0].tolist() == expected


def test_whitespace_does_not_count_and_case_does():
    code = b"for i in range(10): print(values[i] + 1)"
    (one, spaced, upper) = _grams([code, b"\n  ".join(TOKEN.findall(code)), code.upper()])
    assert one == spaced
    assert not set(one) & set(upper)


def test_no_gram_is_of_two_texts():
    halves = [b"a b c d e f g", b"h i j k l m n o"]
    assert _grams(halves) == [[], []]
    assert len(token_grams(halves).grams) == 3


def test_grams_are_the_same_in_every_process():
    code = "from codet5p_jax.corpus.token_grams import token_grams; import sys\n"
    code += "print(token_grams([b'a b c d e f g h i j k l some_longer_name']).grams[0])"
    program = [sys.executable, "-c", code]
    others = {subprocess.run(program, capture_output=True, check=True).stdout for _ in range(2)}
    own = token_grams([b"a b c d e f g h i j k l some_longer_name"]).grams[0]
    assert others == {f"{own}\n".encode()}
