"""Records on their way to a dataset, and which of equal ones stays."""

import hashlib
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt64

from codet5p_jax.corpus.near_duplicates import word_grams
from codet5p_jax.corpus.records import SPLITS, CodeFunction, Record, code_id, fields_of
from codet5p_jax.corpus.tfrecords import encode_example

_PRECEDENCE = {"test": 0, "validation": 1, "train": 2}


class Entry(NamedTuple):
    """A record, serialized, and what a build must know of it.

    Attributes:
        id: First 64 bits of the hash of its code without whitespace: equal for equal records.
        rank: Which of several stays: the lowest. Held-out records come first, so that training
            never sees a copy of what it is tested on; then those with documentation; the rest is
            a hash of repository, path and position. It tells records apart.
        split: Its split.
        language: Its language.
        license: SPDX expression.
        documented: Whether it is a function with documentation.
        grams: Hashes of its 5-grams of words.
        example: The record, serialized.
    """

    id: int
    rank: int
    split: str
    language: str
    license: str
    documented: bool
    grams: UInt64[np.ndarray, "grams"]
    example: bytes


def entry_of(record: Record, *, split: str, position: int | str) -> Entry:
    """Returns `record` as an entry of `split`.

    Args:
        record: The record.
        split: Its split.
        position: What tells it from others of its repository and path: its place in the file.
    """
    documented = isinstance(record, CodeFunction) and bool(record.docstring)
    place = f"{record.repository}\0{record.path}\0{position}"
    return Entry(
        id=int(record.id if isinstance(record, CodeFunction) else code_id(record.code), 16),
        rank=_rank(place, split=split, documented=documented),
        split=split,
        language=record.language,
        license=record.license,
        documented=documented,
        grams=word_grams(record.code),
        example=encode_example(fields_of(record)),
    )


def split_of_rank(rank: int) -> str:
    """Returns the split of the record of that rank."""
    return next(split for split in SPLITS if _PRECEDENCE[split] == rank >> 62)


def _rank(place: str, *, split: str, documented: bool) -> int:
    hashed = int.from_bytes(hashlib.sha256(place.encode()).digest()[:8], "big")
    return _PRECEDENCE[split] << 62 | (not documented) << 61 | hashed >> 3
