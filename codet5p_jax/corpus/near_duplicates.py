"""Near-duplicates: MinHash signatures, their bands, and which records resemble which.

As in the deduplication of StarCoder's data (arXiv:2305.06161, section 3.4): 5-grams of words, 256
permutations, a Jaccard similarity of 0.7. Of the records that fall into one bucket of a band, all
are compared with the first, by rank. One that resembles it is left out, whatever becomes of the
first; so no stage needs more of the corpus than a column of numbers.
"""

import re
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import rensa
from jaxtyping import Bool, UInt16, UInt32, UInt64

SIMILARITY = 0.7
NUM_PERMUTATIONS = 256
NUM_BANDS = 25  # with 10 rows each, half of the pairs at 0.7 share a bucket, 94% at 0.8
_ROWS = NUM_PERMUTATIONS // NUM_BANDS
_WORDS_IN_GRAM = 5
_MIN_WORDS = 10  # shorter texts resemble each other by chance
_SIGNED_AT_ONCE = 4_096  # records; each takes 9 KB as numbers of Python
_SEED = 1
_WORD = re.compile(rb"\w+")
_MULTIPLIERS = np.random.default_rng(_SEED).integers(
    1, 2**64, size=max(_ROWS, _WORDS_IN_GRAM), dtype=np.uint64, endpoint=False
) | np.uint64(1)


def word_grams(code: str) -> UInt64[np.ndarray, "grams"]:
    """Returns the hashes of the 5-grams of words in `code`; none where it has under ten words."""
    words = _WORD.findall(code.encode())
    if len(words) < _MIN_WORDS:
        return np.empty(0, np.uint64)
    hashed = np.fromiter(map(zlib.crc32, words), np.uint64, count=len(words))
    grams = len(words) - _WORDS_IN_GRAM + 1
    return _mixed(hashed[i : i + grams] for i in range(_WORDS_IN_GRAM))


def signatures(grams: Sequence[UInt64[np.ndarray, "_"]]) -> UInt32[np.ndarray, "records 256"]:
    """Returns the MinHash of each record, given the hashes of its 5-grams."""
    signed = np.empty([len(grams), NUM_PERMUTATIONS], np.uint32)
    for start in range(0, len(grams), _SIGNED_AT_ONCE):
        some = grams[start : start + _SIGNED_AT_ONCE]
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            np.concatenate(some), np.cumsum([0, *map(len, some)]), NUM_PERMUTATIONS, _SEED
        )
        signed[start : start + len(some)] = matrix.to_rows()
    return signed


def band_hashes(
    signature: UInt32[np.ndarray, "records 256"],
) -> UInt64[np.ndarray, "bands records"]:
    """Returns the bucket of each record in each band."""
    rows = signature[:, : NUM_BANDS * _ROWS].reshape(-1, NUM_BANDS, _ROWS).astype(np.uint64)
    return np.ascontiguousarray(_mixed(np.moveaxis(rows, -1, 0)).T)


def pairs_in_buckets(
    buckets: UInt64[np.ndarray, "records"], ranks: UInt64[np.ndarray, "records"]
) -> UInt64[np.ndarray, "pairs 2"]:
    """Returns (rank, rank of the first in its bucket) for all but the first of each bucket."""
    order = np.lexsort((ranks, buckets))
    buckets, ranks = buckets[order], ranks[order]
    starts = np.diff(buckets, prepend=~buckets[:1]) != 0
    first = ranks[np.maximum.accumulate(np.where(starts, np.arange(len(ranks)), 0))]
    return np.stack([ranks[~starts], first[~starts]], axis=1)


def resemble(
    one: UInt16[np.ndarray, "pairs 256"], other: UInt16[np.ndarray, "pairs 256"]
) -> Bool[np.ndarray, "pairs"]:
    """Returns whether the signatures say that a pair's Jaccard similarity is 0.7 or more."""
    return np.mean(one == other, axis=1) >= SIMILARITY


def _mixed(columns: Iterable[UInt64[np.ndarray, "*rows"]]) -> UInt64[np.ndarray, "*rows"]:
    """Returns one hash for each row of hashes, given their columns."""
    mixed = sum(column * factor for column, factor in zip(columns, _MULTIPLIERS, strict=False))
    return (mixed ^ (mixed >> np.uint64(29))) * _MULTIPLIERS[0]
