"""Rows of files of data sets: Parquet and JSON lines, one after another, never a whole file.

A file lies on this machine, or wherever fsspec reaches: `hf://datasets/owner/name/...` of the
Hugging Face Hub, `gs://`, `s3://`, or `zip://MEMBER::FILE`, a member of a zip archive.
"""

import contextlib
import io
import itertools
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from codet5p_jax.corpus.archives import MAX_RATIO
from codet5p_jax.corpus.unpacking import DAMAGE, ArchiveError, unpacked

_PARQUET = ".parquet"
_JSON_LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.xz")
ROW_ENDINGS = (_PARQUET, *_JSON_LINES)

_BATCH = 128  # rows in memory; a row of code holds up to 2 MiB
_BUFFER = 2**20  # bytes read ahead of a column
_MAX_LINE = 16 * 2**20

Row = dict[str, Any]


def is_row_file(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is named like a file of rows."""
    return os.fspath(path).lower().endswith(ROW_ENDINGS)


def is_remote(place: str) -> bool:
    """Whether `place` is an address of fsspec, not a path."""
    return "://" in place


def row_files(place: str) -> list[str]:
    """Returns the files of rows at `place`, sorted: itself, those in a folder or in a zip archive.

    Raises:
        FileNotFoundError: Nothing is there, or it cannot be reached.
    """
    if is_remote(place):
        return _remote_files(place)
    if not os.path.isdir(place):
        return _files_at(place)
    files = [os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names]
    return [found for file in sorted(files) for found in _files_at(file)]


def _files_at(path: str) -> list[str]:
    """The file of rows at `path`, or those in the zip archive there."""
    if is_row_file(path):
        return [path]
    if path.lower().endswith(".zip"):
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if is_row_file(name))
            return [f"zip://{name}::{path}" for name in names]
    return []


def _remote_files(place: str) -> list[str]:
    address, _, revision = place.partition("@")
    try:
        system, root = fsspec.core.url_to_fs(place)
        found = [root] if system.isfile(root) else system.find(root)
    except Exception as error:  # each protocol has its own
        raise FileNotFoundError(
            f"{place} cannot be listed: {type(error).__name__}: {error}. Is the name right, is "
            "there a network, and, if access is restricted, is there a login (`hf auth login`)?"
        ) from error
    files = sorted(system.unstrip_protocol(name) for name in found if is_row_file(name))
    if not files:
        advice = ""
        if place.startswith("hf://") and not revision:
            advice = f" The Hub has converted many sets: try {address}@refs/convert/parquet."
        raise FileNotFoundError(
            f"{place} holds no file that ends in {', '.join(ROW_ENDINGS)}.{advice}"
        )
    return files


def fingerprint_of(place: str) -> str:
    """Returns text that changes when the file does at `place`, for which `is_remote` holds."""
    if place.startswith("zip://"):
        stat = pathlib.Path(place.partition("::")[2]).stat()
        return f"{place} {stat.st_size} {stat.st_mtime_ns}"
    system, path = fsspec.core.url_to_fs(place)
    return f"{place} {system.ukey(path)}"


def columns_of(place: str) -> list[str]:
    """Returns the names of the columns of a file of rows; of JSON lines those of the first 128.

    Raises:
        ArchiveError: The file is damaged.
    """
    if _is_parquet(place):
        with _named_damage(place), _opened(place) as (stream, _):
            return list(pq.ParquetFile(stream).schema_arrow.names)
    first = itertools.islice(_json_rows(place), _BATCH)
    return list(dict.fromkeys(name for row in first for name in row or ()))


def read_rows(place: str, columns: Sequence[str]) -> Iterator[Row | None]:
    """Yields the rows of a file, of `columns` alone; None for a line that is no row.

    Text that is no UTF-8 comes as bytes.

    Raises:
        ArchiveError: The file is damaged.
    """
    if _is_parquet(place):
        yield from _parquet_rows(place, columns)
        return
    for row in _json_rows(place):
        yield None if row is None else {name: row.get(name) for name in columns}


def _is_parquet(place: str) -> bool:
    return place.lower().partition("::")[0].endswith(_PARQUET)


@contextlib.contextmanager
def _opened(place: str) -> Iterator[tuple[Any, int]]:
    """The file at `place`, open, and its size in bytes."""
    if is_remote(place):
        system, path = fsspec.core.url_to_fs(place)  # a zip closes when nothing refers to it
        with system.open(path, "rb") as stream:
            yield stream, system.size(path)
    else:
        with pathlib.Path(place).open("rb") as stream:
            yield stream, pathlib.Path(place).stat().st_size


def _parquet_rows(place: str, columns: Sequence[str]) -> Iterator[Row]:
    with _named_damage(place), _opened(place) as (stream, _):
        file = pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False)
        for batch in file.iter_batches(_BATCH, columns=list(columns)):
            values = [_values(batch.column(name)) for name in columns]
            yield from (dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True))


@contextlib.contextmanager
def _named_damage(place: str) -> Iterator[None]:
    try:
        yield
    except (*DAMAGE, pa.ArrowException) as error:
        local = not is_remote(place) or place.startswith("zip://")
        if isinstance(error, OSError) and not local:
            raise  # the network: the file may well be whole
        raise ArchiveError(f"{place} cannot be read: {error}") from error


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column.to_pylist()
    return [None if v is None else _text(v) for v in column.cast(pa.large_binary()).to_pylist()]


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _json_rows(place: str) -> Iterator[Row | None]:
    with _named_damage(place), _opened(place) as (stream, size):
        packed = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)
        lines = unpacked(packed, limit=max(size, 2**16) * MAX_RATIO, name=place)
        while line := lines.readline(_MAX_LINE):
            if not line.endswith(b"\n") and len(line) == _MAX_LINE:
                _skip_line(lines)
                yield None
            elif line.strip():
                yield _json_row(line)


def _skip_line(lines: io.BufferedReader) -> None:
    while (rest := lines.readline(_MAX_LINE)) and not rest.endswith(b"\n"):
        pass


def _json_row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # the latter of a thousand brackets
        return None
    return row if isinstance(row, dict) else None
