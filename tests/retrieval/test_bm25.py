"""Tests of codet5p_jax.retrieval.bm25, against the formula written out in dense numpy."""

import numpy as np
import pytest

from codet5p_jax.retrieval.bm25 import BM25Index, identifier_words

DOCUMENTS = [
    "def read_file(path): return open(path).read()",
    "def writeFile(path, data): file.write(data)",
    "int main(void) { return 0; }",
    "",
]


def _dense_bm25(query_words, documents, *, k1, b):
    """Robertson and Zaragoza 2009, eq. 3.15, by loops over a full count matrix."""
    scores = np.zeros(len(documents))
    mean_length = np.mean([len(words) for words in documents])
    for word in query_words:
        containing = sum(word in words for words in documents)
        idf = np.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
        for row, words in enumerate(documents):
            tf = words.count(word)
            if not tf:
                continue
            length_share = 1 - b + b * len(words) / mean_length
            scores[row] += idf * tf / (tf + k1 * length_share)
    return scores


@pytest.mark.parametrize("k1, b", [(1.2, 0.75), (0.9, 0.4), (2.0, 0.0), (1.5, 1.0)])
def test_scores_equal_the_formula(k1, b):
    queries = ["read the file", "path path data", "nothing here matches xyz"]
    expected = [
        _dense_bm25(identifier_words(query), [identifier_words(d) for d in DOCUMENTS], k1=k1, b=b)
        for query in queries
    ]
    scores = BM25Index.from_documents(DOCUMENTS, k1=k1, b=b).scores(queries)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_score_by_hand():
    index = BM25Index.from_documents(["a b", "b c"], k1=1.0, b=0.0)
    # "a" is in 1 of 2 documents: idf = ln(1 + 1.5 / 1.5) = ln 2; tf / (tf + 1) = 1/2
    np.testing.assert_allclose(index.scores(["a"]), [[np.log(2) / 2, 0]])


@pytest.mark.parametrize(
    "text, words",
    [
        ("parseHTTPResponse(max_size2)", ["parse", "http", "response", "max", "size", "2"]),
        ("__init__ XMLHttpRequest", ["init", "xml", "http", "request"]),
        ("MAX_VALUE = 0x1F", ["max", "value", "0", "x", "1", "f"]),
        ("", []),
        ("数据 größeWert", ["数据", "größe", "wert"]),
    ],
)
def test_identifiers_are_split_into_words(text, words):
    assert identifier_words(text) == words


def test_an_empty_code_base_is_an_error():
    with pytest.raises(ValueError, match="at least one document"):
        BM25Index.from_documents([])
