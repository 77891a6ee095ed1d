"""The build as a Beam pipeline: sources -> entries -> shards without duplicates -> a summary.

Every stage depends on its input alone and sorts what it groups, so the records are the same
whatever the runner and the number of its workers.
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from codet5p_jax.corpus.datasets import FEATURES, ShardInfo, shard_path, write_shard
from codet5p_jax.corpus.deduplication import Entry, without_duplicates
from codet5p_jax.corpus.extraction import Counts, Extracted, extract_source
from codet5p_jax.corpus.filters import Filters
from codet5p_jax.corpus.records import SPLITS
from codet5p_jax.corpus.sources import Source

Key = tuple[str, int]  # dataset, shard
_DUPLICATE = {"code_files": "file: duplicate", "code_functions": "function: duplicate"}
_ELEMENT_BYTES = 4_000_000  # entries that travel as one element: each element costs Beam time


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What the stages of a build need to know.

    Attributes:
        out_dir: Where the datasets are written.
        filters: What is left out.
        licenses: SPDX names of the licences a file may have.
        num_shards: Files of records in each split.
    """

    out_dir: str
    filters: Filters
    licenses: tuple[str, ...]
    num_shards: int


class ExtractEntries(beam.DoFn):
    """Source -> (key, entries of that shard), and counts on the output `counts`."""

    def __init__(self, options: BuildOptions):
        self._options = options

    def process(self, source: Source) -> Iterator[Any]:
        """Reads one source; holds at most `_ELEMENT_BYTES` of it."""
        counts: Counts = collections.Counter()
        waiting: dict[Key, list[Entry]] = collections.defaultdict(list)
        size = 0
        options = self._options
        for extracted in extract_source(source, filters=options.filters, licenses=options.licenses):
            counts.update(extracted.counts)
            for key, entry in self._keyed(extracted):
                waiting[key].append(entry)
                size += len(entry.example)
            if size > _ELEMENT_BYTES:
                yield from waiting.items()
                waiting, size = collections.defaultdict(list), 0
        yield from waiting.items()
        yield beam.pvalue.TaggedOutput("counts", list(counts.items()))
        mark_done(options.out_dir, source)

    def _keyed(self, extracted: Extracted) -> Iterator[tuple[Key, Entry]]:
        for dataset, entries in zip(FEATURES, (extracted.files, extracted.functions), strict=True):
            for entry in entries:
                yield (dataset, _shard_of(entry, self._options.num_shards)), entry


def _shard_of(entry: Entry, num_shards: int) -> int:
    """Equal records share a shard, so that each shard finds its own duplicates."""
    return int(entry.id, 16) % num_shards


class WriteShards(beam.DoFn):
    """(key, lists of entries) -> the files of that shard in every split, as a summary."""

    def __init__(self, options: BuildOptions):
        self._options = options

    def process(self, group: tuple[Key, Iterable[Sequence[Entry]]]) -> Iterator[dict[str, Any]]:
        """Writes one shard of one dataset; holds its entries in memory."""
        (dataset, index), lists = group
        entries = [Entry(*entry) for entries in lists for entry in entries]
        kept = without_duplicates(entries)
        counts = _counts_of(kept, dataset)
        counts["rejections", _DUPLICATE[dataset]] = len(entries) - len(kept)
        yield {"counts": list(counts.items()), "shards": self._write(kept, dataset, index)}

    def _write(self, entries: Sequence[Entry], dataset: str, index: int) -> list[dict[str, Any]]:
        written = []
        for split in SPLITS:
            path = shard_path(
                self._options.out_dir,
                dataset,
                split=split,
                index=index,
                num_shards=self._options.num_shards,
            )
            examples = [entry.example for entry in entries if entry.split == split]
            written.append(write_shard(path, examples, dataset=dataset, split=split, index=index))
        return [dataclasses.asdict(shard) for shard in written]


def _counts_of(entries: Sequence[Entry], dataset: str) -> Counts:
    counts: Counts = collections.Counter()
    for entry in entries:
        for kind in (dataset, "pairs") if entry.documented else (dataset,):
            counts[f"splits {entry.split}", kind] += 1
            counts[f"languages {entry.language} {entry.split}", kind] += 1
            counts[f"licenses {entry.license}", kind] += 1
    return counts


class MergeSummaries(beam.CombineFn):
    """Adds up counts and gathers the shards that were written."""

    def create_accumulator(self) -> dict[str, Any]:
        """Returns the summary of nothing."""
        return {"counts": [], "shards": []}

    def add_input(self, accumulator: dict[str, Any], element: dict[str, Any]) -> dict[str, Any]:
        """Returns `accumulator` with `element` added."""
        return self.merge_accumulators([accumulator, element])

    def merge_accumulators(self, accumulators: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Returns the sum of summaries."""
        counts: Counts = collections.Counter()
        shards: list[dict[str, Any]] = []
        for accumulator in accumulators:
            counts.update(dict(accumulator["counts"]))
            shards += accumulator["shards"]
        return {"counts": list(counts.items()), "shards": shards}

    def extract_output(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Returns the summary, in a fixed order."""
        shards = sorted(accumulator["shards"], key=lambda s: (s["dataset"], s["split"], s["index"]))
        return {"counts": sorted(accumulator["counts"]), "shards": shards}


def build_graph(pipeline: beam.Pipeline, sources: Sequence[Source], options: BuildOptions) -> None:
    """Adds the build of `sources` to `pipeline`; it ends with `SUMMARY` in the output folder."""
    extracted = (
        pipeline
        | "sources" >> beam.Create(list(sources))
        | "spread" >> beam.Reshuffle()
        | "extract" >> beam.ParDo(ExtractEntries(options)).with_outputs("counts", main="entries")
    )
    every_key: list[tuple[Key, list[Entry]]] = [
        ((dataset, i), []) for dataset in FEATURES for i in range(options.num_shards)
    ]
    shards = (
        (extracted.entries, pipeline | "every shard" >> beam.Create(every_key))
        | "with empty shards" >> beam.Flatten()
        | "group" >> beam.GroupByKey()
        | "write" >> beam.ParDo(WriteShards(options))
    )
    counts = extracted.counts | "counts" >> beam.Map(lambda c: {"counts": c, "shards": []})
    (
        (shards, counts)
        | "summaries" >> beam.Flatten()
        | "add up" >> beam.CombineGlobally(MergeSummaries())
        | "summary" >> beam.Map(write_summary, options.out_dir)
    )


def write_summary(summary: dict[str, Any], out_dir: str) -> None:
    """Writes the summary of a build."""
    _summary_path(out_dir).write_text(json.dumps(summary), encoding="utf-8")


def read_summary(out_dir: str) -> tuple[Counts, list[ShardInfo]]:
    """Returns the counts and the shards of a build that has ended."""
    summary = json.loads(_summary_path(out_dir).read_text(encoding="utf-8"))
    counts: Counts = collections.Counter({(kind, name): n for (kind, name), n in summary["counts"]})
    return counts, [ShardInfo(**shard) for shard in summary["shards"]]


def _summary_path(out_dir: str) -> pathlib.Path:
    return pathlib.Path(out_dir, "summary.json")


def mark_done(out_dir: str, source: Source) -> None:
    """Leaves a mark by which a waiting process sees how many sources were read."""
    folder = pathlib.Path(out_dir, "done")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / source.name.replace("/", "_")).touch()


def count_done(out_dir: str) -> int:
    """Returns how many sources were read so far."""
    folder = pathlib.Path(out_dir, "done")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def run(sources: Sequence[Source], options: BuildOptions, pipeline_args: Sequence[str]) -> None:
    """Runs the build of `sources`; `pipeline_args` are Beam's options, for example `--runner`."""
    with beam.Pipeline(options=PipelineOptions(list(pipeline_args))) as pipeline:
        build_graph(pipeline, sources, options)
