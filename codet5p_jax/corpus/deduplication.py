"""Removal of duplicates: records that are equal but for whitespace."""

from collections.abc import Iterable
from typing import NamedTuple

from codet5p_jax.corpus.records import CodeFunction, Record, code_id, fields_of
from codet5p_jax.corpus.tfrecords import encode_example

_PRECEDENCE = {"test": 0, "validation": 1, "train": 2}


class Entry(NamedTuple):
    """A record on its way to a dataset. A plain tuple, which Beam encodes fast.

    Attributes:
        id: `code_id` of its code.
        precedence: Of two records with one id the smaller stays; held-out records come first, so
            that training never sees a copy of what it is tested on.
        repository: Name of its repository, the second criterion.
        path: Path of its file, the third.
        position: Its place in that file, the last.
        split: Its split.
        language: Its language.
        license: SPDX expression.
        documented: Whether it is a function with documentation.
        example: The record, serialized.
    """

    id: str
    precedence: int
    repository: str
    path: str
    position: int
    split: str
    language: str
    license: str
    documented: bool
    example: bytes


def entry_of(record: Record, *, split: str, position: int) -> Entry:
    """Returns `record` as an entry of `split`."""
    documented = isinstance(record, CodeFunction) and bool(record.docstring)
    return Entry(
        id=record.id if isinstance(record, CodeFunction) else code_id(record.code),
        precedence=_PRECEDENCE[split],
        repository=record.repository,
        path=record.path,
        position=position,
        split=split,
        language=record.language,
        license=record.license,
        documented=documented,
        example=encode_example(fields_of(record)),
    )


def without_duplicates(entries: Iterable[Entry]) -> list[Entry]:
    """Returns one entry for each id, ordered by id, whatever the order of `entries`.

    A documented function stays before one without documentation in the same split.
    """
    kept: dict[str, Entry] = {}
    for entry in sorted(entries, key=_order):
        kept.setdefault(entry.id, entry)
    return list(kept.values())


def _order(entry: Entry) -> tuple[str, int, bool, str, str, int]:
    return (
        *(entry.id, entry.precedence, not entry.documented),
        *(entry.repository, entry.path, entry.position),
    )
