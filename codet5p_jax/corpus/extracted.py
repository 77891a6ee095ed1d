"""What was extracted of each source, kept until the build ends: one that was killed goes on there.

FOLDER/<fingerprint of the source>.json tells its chunks and counts; it is written last.
"""

import collections
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from codet5p_jax.corpus.chunks import write_chunk
from codet5p_jax.corpus.deduplication import Entry
from codet5p_jax.corpus.extraction import Counts, extract_source
from codet5p_jax.corpus.filters import Filters
from codet5p_jax.corpus.rows import fingerprint_of, is_remote
from codet5p_jax.corpus.sources import Source

_CHUNK_BYTES = 32 * 2**20  # of serialized records in memory; with their 5-grams about thrice that


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extracted:
    """The chunks of a source.

    Attributes:
        chunks: (dataset, path of a chunk without its ending).
        counts: What was counted: kept, and left out for which reason.
    """

    chunks: list[tuple[str, str]]
    counts: list[tuple[tuple[str, str], int]]


def extracted(
    source: Source,
    folder: str | os.PathLike[str],
    *,
    filters: Filters,
    licenses: Iterable[str],
    num_shards: int,
) -> Extracted:
    """Returns the chunks of `source` in `folder`, made now unless they are there.

    Args:
        source: What to read.
        folder: Of builds with the same filters, licences and number of shards.
        filters: What is left out.
        licenses: SPDX names of the licences that a file may have.
        num_shards: Files of records in each split.
    """
    place = pathlib.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    name = _fingerprint(source)
    done = place / f"{name}.json"
    if done.is_file():
        return _from_json(done.read_text(encoding="utf-8"))
    counts: Counts = collections.Counter()
    chunks = []
    for number, (dataset, entries) in enumerate(_batches(source, filters, licenses, counts)):
        chunk = str(place / f"{name}-{number:05}")
        write_chunk(chunk, entries, num_shards=num_shards)
        chunks.append((dataset, chunk))
    found = Extracted(chunks=chunks, counts=list(counts.items()))
    unfinished = done.with_suffix(".partial")
    unfinished.write_text(json.dumps(dataclasses.asdict(found)), encoding="utf-8")
    unfinished.replace(done)
    return found


def count_extracted(folder: str | os.PathLike[str]) -> int:
    """Returns how many sources were extracted so far."""
    return sum(1 for _ in pathlib.Path(folder).glob("*.json"))


def _batches(
    source: Source, filters: Filters, licenses: Iterable[str], counts: Counts
) -> Iterator[tuple[str, Sequence[Entry]]]:
    """Yields (dataset, entries of a chunk), and adds to `counts`."""
    waiting: dict[str, list[Entry]] = {"code_files": [], "code_functions": []}
    sizes: collections.Counter[str] = collections.Counter()
    for found in extract_source(source, filters=filters, licenses=licenses):
        counts.update(found.counts)
        for dataset, entries in (("code_files", found.files), ("code_functions", found.functions)):
            waiting[dataset] += entries
            sizes[dataset] += sum(len(entry.example) for entry in entries)
            if sizes[dataset] > _CHUNK_BYTES:
                yield dataset, waiting[dataset]
                waiting[dataset], sizes[dataset] = [], 0
    yield from ((dataset, entries) for dataset, entries in waiting.items() if entries)


def _fingerprint(source: Source) -> str:
    """Returns 16 hex digits of what `source` says and of the sizes and times of its files."""
    stated = [json.dumps(dataclasses.asdict(source), sort_keys=True)]
    stated += [fingerprint_of(place) for place in source.places if is_remote(place)]
    for place in (pathlib.Path(place) for place in source.places if not is_remote(place)):
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        stats = ((file, file.lstat()) for file in files)
        stated += [f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats]
    return hashlib.sha256("\n".join(stated).encode()).hexdigest()[:16]


def _from_json(text: str) -> Extracted:
    values: dict[str, Any] = json.loads(text)
    return Extracted(
        chunks=[(dataset, chunk) for dataset, chunk in values["chunks"]],
        counts=[((kind, name), n) for (kind, name), n in values["counts"]],
    )
