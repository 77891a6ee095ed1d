"""What was extracted of each source, kept until the build ends: one that was killed goes on there.

extracted/<fingerprint of the source>.json tells its chunks and counts; it is written last.
"""

import collections
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from codet5p_jax.corpus.chunks import write_chunk
from codet5p_jax.corpus.decontamination import EvaluationGrams
from codet5p_jax.corpus.deduplication import Entry
from codet5p_jax.corpus.extraction import extract_source
from codet5p_jax.corpus.options import BuildOptions
from codet5p_jax.corpus.records import Counts
from codet5p_jax.corpus.rows import fingerprint_of, is_remote
from codet5p_jax.corpus.sources import Source

_FOLDER = "extracted"
_CHUNK_BYTES = 32 * 2**20  # of serialized records in memory; with their 5-grams about thrice that


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceChunks:
    """The chunks of a source.

    Attributes:
        chunks: (dataset, path of a chunk without its ending).
        counts: What was counted: kept, and left out for which reason.
    """

    chunks: list[tuple[str, str]]
    counts: list[tuple[tuple[str, str], int]]


def extracted(source: Source, options: BuildOptions) -> SourceChunks:
    """Returns the chunks of `source`, made now unless they are there.

    Args:
        source: What to read.
        options: Of the build; what it left before was extracted with the same.
    """
    place = options.folder(_FOLDER)
    name = _fingerprint(source)
    done = place / f"{name}.json"
    if done.is_file():
        return _from_json(done.read_text(encoding="utf-8"))
    counts: Counts = collections.Counter()
    chunks = []
    for number, (dataset, entries) in enumerate(_batches(source, options, counts)):
        chunk = str(place / f"{name}-{number:05}")
        write_chunk(chunk, entries, num_shards=options.num_shards)
        chunks.append((dataset, chunk))
    found = SourceChunks(chunks=chunks, counts=list(counts.items()))
    unfinished = done.with_suffix(".partial")
    unfinished.write_text(json.dumps(dataclasses.asdict(found)), encoding="utf-8")
    unfinished.replace(done)
    return found


def count_extracted(options: BuildOptions) -> int:
    """Returns how many sources of a build were extracted so far."""
    return sum(1 for _ in options.folder(_FOLDER).glob("*.json"))


def _batches(
    source: Source, options: BuildOptions, counts: Counts
) -> Iterator[tuple[str, Sequence[Entry]]]:
    """Yields (dataset, entries of a chunk), and adds to `counts`."""
    waiting: dict[str, list[Entry]] = {"code_files": [], "code_functions": []}
    sizes: collections.Counter[str] = collections.Counter()
    folder = options.evaluation_dir
    evaluation = None if folder is None else EvaluationGrams(folder)
    for found in extract_source(
        source, filters=options.filters, licenses=options.licenses, evaluation=evaluation
    ):
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
    return hashlib.sha256("\n".join(stated).encode(errors="surrogateescape")).hexdigest()[:16]


def _from_json(text: str) -> SourceChunks:
    values: dict[str, Any] = json.loads(text)
    return SourceChunks(
        chunks=[(dataset, chunk) for dataset, chunk in values["chunks"]],
        counts=[((kind, name), n) for (kind, name), n in values["counts"]],
    )
