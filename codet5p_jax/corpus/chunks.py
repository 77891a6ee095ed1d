"""Chunks: what was extracted of a source, in files that the stages of a build read in parts.

Texts stay in these files; between the stages travel their names alone, whatever the runner. So a
build needs no more memory than one chunk or one shard takes, and one that was killed finds what it
has extracted. A chunk is NAME.records, framed as in a dataset and in the order of its shards, and
NAME.npz, one array for each of `Table`'s fields.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Bool, Int64, UInt8, UInt16, UInt64

from codet5p_jax.corpus.deduplication import Entry
from codet5p_jax.corpus.languages import LANGUAGES
from codet5p_jax.corpus.near_duplicates import band_hashes, signatures
from codet5p_jax.corpus.records import SPLITS
from codet5p_jax.corpus.tfrecords import framed

_LANGUAGES = tuple(LANGUAGES)


class Table(NamedTuple):
    """Columns of a chunk that are read together.

    Attributes:
        ids: `Entry.id` of each record.
        ranks: `Entry.rank`.
        splits: Index into `SPLITS`.
        languages: Index into the names of `LANGUAGES`.
        licenses: Index into `license_names`.
        documented: Whether a function has documentation.
        ends: Where its bytes end in NAME.records.
        license_names: SPDX expressions.
    """

    ids: UInt64[np.ndarray, "records"]
    ranks: UInt64[np.ndarray, "records"]
    splits: UInt8[np.ndarray, "records"]
    languages: UInt8[np.ndarray, "records"]
    licenses: UInt16[np.ndarray, "records"]
    documented: Bool[np.ndarray, "records"]
    ends: Int64[np.ndarray, "records"]
    license_names: np.ndarray


def write_chunk(path: str | os.PathLike[str], entries: Sequence[Entry], *, num_shards: int) -> None:
    """Writes entries of one dataset as PATH.records and PATH.npz.

    Args:
        path: Without an ending; its folder exists.
        entries: In any order.
        num_shards: Record files of each split; a record lies in that of its id modulo them.
    """
    entries = sorted(entries, key=lambda entry: (entry.id % num_shards, entry.id, entry.rank))
    frames = [framed(entry.example) for entry in entries]
    _records(path).write_bytes(b"".join(frames))
    license_names = sorted({entry.license for entry in entries})
    hashed = signatures([entry.grams for entry in entries])
    table = Table(
        ids=np.array([entry.id for entry in entries], np.uint64),
        ranks=np.array([entry.rank for entry in entries], np.uint64),
        splits=np.array([SPLITS.index(entry.split) for entry in entries], np.uint8),
        languages=np.array([_LANGUAGES.index(entry.language) for entry in entries], np.uint8),
        licenses=np.array([license_names.index(e.license) for e in entries], np.uint16),
        documented=np.array([entry.documented for entry in entries], bool),
        ends=np.cumsum([len(frame) for frame in frames], dtype=np.int64),
        license_names=np.array(license_names),
    )
    without = np.array([not len(entry.grams) for entry in entries], bool)
    bands = np.where(without, table.ranks, band_hashes(hashed))  # a bucket each
    named = {f"band{band}": column for band, column in enumerate(bands)}
    with _columns(path).open("wb") as stream:
        np.savez(stream, signatures=hashed.astype(np.uint16), **named, **table._asdict())


def read_table(path: str | os.PathLike[str]) -> Table:
    """Returns the columns of a chunk, without buckets and signatures."""
    with _columns(path).open("rb") as stream, np.load(stream) as columns:
        return Table(**{name: columns[name] for name in Table._fields})


def read_buckets(path: str | os.PathLike[str], band: int | None) -> np.ndarray:
    """Returns (bucket, rank) of each record of a chunk, uint64 [2, records].

    Args:
        path: Of the chunk.
        band: Number of a band; None: the bucket is the id, so equal records share one.
    """
    name = "ids" if band is None else f"band{band}"
    with _columns(path).open("rb") as stream, np.load(stream) as columns:
        return np.stack([columns[name], columns["ranks"]])


def read_signatures(
    path: str | os.PathLike[str],
) -> tuple[UInt64[np.ndarray, "records"], UInt16[np.ndarray, "records 256"]]:
    """Returns the ranks of a chunk's records, and 16 bits of each number of their MinHashes."""
    with _columns(path).open("rb") as stream, np.load(stream) as columns:
        return columns["ranks"], columns["signatures"]


def read_frames(
    path: str | os.PathLike[str], table: Table, rows: Int64[np.ndarray, "rows"]
) -> list[bytes]:
    """Returns the framed records of some rows of a chunk; what lies between them is read, too."""
    if not len(rows):
        return []
    starts = np.concatenate([[0], table.ends[:-1]])
    first = int(starts[rows[0]])
    with _records(path).open("rb") as stream:
        stream.seek(first)
        read = stream.read(int(table.ends[rows[-1]]) - first)
    bounds = zip((starts[rows] - first).tolist(), (table.ends[rows] - first).tolist(), strict=True)
    return [read[start:end] for start, end in bounds]


def _records(path: str | os.PathLike[str]) -> epath.Path:
    return epath.Path(f"{os.fspath(path)}.records")


def _columns(path: str | os.PathLike[str]) -> epath.Path:
    return epath.Path(f"{os.fspath(path)}.npz")
