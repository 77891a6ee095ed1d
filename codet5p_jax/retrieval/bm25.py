"""BM25 over the words inside identifiers: the baseline that a trained embedding has to beat."""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from jaxtyping import Float, Int

_RUNS = re.compile(r"[^\W\d_]+|\d+")  # letters of any script, or digits
# Where a run of letters is split: fooBar -> foo Bar, HTTPResponse -> HTTP Response.
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def identifier_words(text: str) -> list[str]:
    """Splits text or code into lower-case words, identifiers into their parts.

    >>> identifier_words("parseHTTPResponse(max_size2)")
    ['parse', 'http', 'response', 'max', 'size', '2']
    """
    return [word.lower() for run in _RUNS.findall(text) for word in _HUMPS.split(run)]


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class BM25Index:
    """Inverted index of a code base. Build it with `BM25Index.from_documents`.

    The score of document d for query q is the sum over the words w of q, repeats included, of

        idf(w) * tf / (tf + k1 * (1 - b + b * |d| / mean |d|)),   tf = count of w in d,
        idf(w) = ln(1 + (N - n + 0.5) / (n + 0.5)),               n = documents that hold w.

    Source: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", eq. 3.15, with
    Lucene's idf, which is never negative, and without the constant factor k1 + 1.

    Attributes:
        num_documents: N, documents in the code base.
        postings: For each word the documents that hold it and its weight in each.
    """

    num_documents: int
    postings: Mapping[str, tuple[Int[np.ndarray, " hits"], Float[np.ndarray, " hits"]]]

    @classmethod
    def from_documents(
        cls, documents: Sequence[str], *, k1: float = 1.2, b: float = 0.75
    ) -> "BM25Index":
        """Builds the index of `documents`.

        Args:
            documents: Code or text, one string per document.
            k1: Saturation: how much a second occurrence adds. Lucene's default.
            b: Share of the length normalisation, 0..1. Lucene's default.
        """
        if not documents:
            raise ValueError("BM25 needs at least one document; got an empty code base.")
        counts = [collections.Counter(identifier_words(document)) for document in documents]
        lengths = np.array([count.total() for count in counts], np.float64)
        normaliser = k1 * (1 - b + b * lengths / max(lengths.mean(), 1.0))
        hits: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)
        for row, count in enumerate(counts):
            for word, frequency in count.items():
                hits[word].append((row, frequency))
        postings = {word: _weights(found, normaliser) for word, found in hits.items()}
        return cls(num_documents=len(documents), postings=postings)

    def scores(self, queries: Sequence[str]) -> Float[np.ndarray, "queries documents"]:
        """Returns the score of every document for every query, float64."""
        scores = np.zeros([len(queries), self.num_documents])
        for row, query in enumerate(queries):
            for word, repeats in collections.Counter(identifier_words(query)).items():
                if word in self.postings:
                    documents, weights = self.postings[word]
                    scores[row, documents] += repeats * weights
        return scores


def _weights(
    hits: Sequence[tuple[int, int]], normaliser: Float[np.ndarray, " documents"]
) -> tuple[Int[np.ndarray, " hits"], Float[np.ndarray, " hits"]]:
    """Returns the documents of one word and its weight in each."""
    documents, frequencies = np.array(hits).T
    idf = math.log1p((len(normaliser) - len(hits) + 0.5) / (len(hits) + 0.5))
    return documents, idf * frequencies / (frequencies + normaliser[documents])
