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
from codet5p_jax.corpus.extraction import extract
from codet5p_jax.corpus.filters import Filters
from codet5p_jax.corpus.records import SPLITS
from codet5p_jax.corpus.sources import Rejection, Source, read_source

Key = tuple[str, int]  # dataset, shard
Counts = dict[str, int]  # "kind\tname" -> count
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
        counts: collections.Counter[str] = collections.Counter()
        waiting: dict[Key, list[Entry]] = collections.defaultdict(list)
        size = 0
        for key, entry in _entries(source, counts, options=self._options):
            waiting[key].append(entry)
            size += len(entry.example)
            if size > _ELEMENT_BYTES:
                yield from waiting.items()
                waiting, size = collections.defaultdict(list), 0
        yield from waiting.items()
        yield beam.pvalue.TaggedOutput("counts", dict(counts))
        mark_done(self._options.out_dir, source)


def _entries(
    source: Source, counts: collections.Counter[str], *, options: BuildOptions
) -> Iterator[tuple[Key, Entry]]:
    """The entries of `source`, each with its key; adds what it saw to `counts`."""
    files = read_source(source, filters=options.filters, allowed_licenses=options.licenses)
    for file in files:
        if isinstance(file, Rejection):
            counts[f"rejections\t{file.reason}"] += 1
            continue
        counts[f"source files\t{source.name}"] += 1
        counts[f"source bytes\t{source.name}"] += len(file.content)
        counts[f"source licence {source.name}\t{file.license}"] += 1
        extracted = extract(file, split=source.split, filters=options.filters)
        counts.update({f"rejections\t{r}": n for r, n in extracted.rejections.items()})
        for dataset, entries in zip(FEATURES, (extracted.files, extracted.functions), strict=True):
            for entry in entries:
                yield (dataset, _shard_of(entry, options.num_shards)), entry


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
        counts[f"rejections\t{dataset.split('_')[1][:-1]}: duplicate"] = len(entries) - len(kept)
        yield {"counts": counts, "shards": self._write(kept, dataset, index)}

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


def _counts_of(entries: Sequence[Entry], dataset: str) -> collections.Counter[str]:
    counts: collections.Counter[str] = collections.Counter()
    for entry in entries:
        kinds = [dataset, "pairs"] if entry.documented else [dataset]
        for kind in kinds:
            counts[f"splits {entry.split}\t{kind}"] += 1
            counts[f"languages {entry.language} {entry.split}\t{kind}"] += 1
            counts[f"licenses {entry.license}\t{kind}"] += 1
    return counts


class MergeSummaries(beam.CombineFn):
    """Adds up counts and gathers the shards that were written."""

    def create_accumulator(self) -> dict[str, Any]:
        """Returns the summary of nothing."""
        return {"counts": {}, "shards": []}

    def add_input(self, accumulator: dict[str, Any], element: dict[str, Any]) -> dict[str, Any]:
        """Returns `accumulator` with `element` added."""
        return self.merge_accumulators([accumulator, element])

    def merge_accumulators(self, accumulators: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Returns the sum of summaries."""
        counts: collections.Counter[str] = collections.Counter()
        shards: list[dict[str, Any]] = []
        for accumulator in accumulators:
            counts.update(accumulator["counts"])
            shards += accumulator["shards"]
        return {"counts": dict(counts), "shards": shards}

    def extract_output(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Returns the summary, in a fixed order."""
        shards = sorted(accumulator["shards"], key=lambda s: (s["dataset"], s["split"], s["index"]))
        return {"counts": dict(sorted(accumulator["counts"].items())), "shards": shards}


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
    return summary["counts"], [ShardInfo(**shard) for shard in summary["shards"]]


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
