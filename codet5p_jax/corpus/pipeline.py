"""The build as a Beam pipeline: sources -> chunks -> duplicates -> shards -> a summary.

Every stage depends on its input alone and sorts what it groups, so the records are the same
whatever the runner and the number of its workers. What travels are names of files and counts; the
records stay in chunks (see `chunks`).
"""

import collections
import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions
from etils import epath

from codet5p_jax.corpus.chunks import (
    Table,
    read_buckets,
    read_frames,
    read_signatures,
    read_table,
)
from codet5p_jax.corpus.datasets import FEATURES, ShardInfo, shard_path, write_shard
from codet5p_jax.corpus.extracted import extracted
from codet5p_jax.corpus.languages import LANGUAGES
from codet5p_jax.corpus.near_duplicates import NUM_BANDS, pairs_in_buckets, resemble
from codet5p_jax.corpus.options import BuildOptions
from codet5p_jax.corpus.records import SPLITS, Counts
from codet5p_jax.corpus.sources import Source

_BANDS = (None, *range(NUM_BANDS))  # None: records that are equal but for whitespace
_KINDS = {"code_files": "file", "code_functions": "function"}
_LANGUAGES = tuple(LANGUAGES)

Key = tuple[Any, ...]  # what a task of a stage does; begins with a dataset
Task = tuple[Key, list[str]]  # with the chunks of that dataset
Counted = dict[str, Any]  # {"counts": list of ((what, name), n), "shards": list of ShardInfo}


def find_pairs(task: Task, options: BuildOptions) -> Key:
    """Writes the pairs of records that share a bucket of one band; a task (dataset, band)."""
    (dataset, band), chunks = task
    columns = [read_buckets(chunk, band) for chunk in chunks]
    buckets, ranks = np.concatenate([np.empty([2, 0], np.uint64), *columns], axis=1)
    with (options.folder("pairs") / f"{dataset}-{band}.npy").open("wb") as stream:
        np.save(stream, pairs_in_buckets(buckets, ranks))
    return dataset, band


def find_duplicates(task: Task, options: BuildOptions) -> Key:
    """Writes the ranks of the records that go, equal ones and near ones; a task (dataset,)."""
    (dataset,), chunks = task
    equal = _pairs(dataset, None, options)[:, 0]
    shared = [_pairs(dataset, band, options) for band in range(NUM_BANDS)]
    pairs = np.unique(np.concatenate(shared), axis=0)
    pairs = pairs[~np.isin(pairs[:, 0], equal)]
    near = np.unique(pairs[_resemble(pairs, chunks), 0])
    with (options.folder("duplicates") / f"{dataset}.npz").open("wb") as stream:
        np.savez(stream, equal=np.sort(equal), near=near)
    return (dataset,)


def _pairs(dataset: str, band: int | None, options: BuildOptions) -> np.ndarray:
    with (options.folder("pairs") / f"{dataset}-{band}.npy").open("rb") as stream:
        return np.load(stream)


def _resemble(pairs: np.ndarray, chunks: Sequence[str]) -> np.ndarray:
    if not len(pairs):
        return np.zeros(0, bool)
    wanted = np.unique(pairs)
    ranks, signatures = [], []
    for chunk in chunks:
        own, signature = read_signatures(chunk)
        rows = np.isin(own, wanted)
        ranks.append(own[rows])
        signatures.append(signature[rows])
    known, signature = np.concatenate(ranks), np.concatenate(signatures)
    order = np.argsort(known)
    known, signature = known[order], signature[order]
    one, other = np.searchsorted(known, pairs).T
    return resemble(signature[one], signature[other])


def write_shards(task: Task, options: BuildOptions) -> Counted:
    """Writes one shard of every split of a dataset; a task (dataset, shard). Holds its records."""
    (dataset, index), chunks = task
    with (options.folder("duplicates") / f"{dataset}.npz").open("rb") as stream:
        duplicates = dict(np.load(stream))
    counts: Counts = collections.Counter()
    kept: list[tuple[int, int, bytes]] = []  # id, split, frame
    for chunk in chunks:
        table = read_table(chunk)
        rows = np.flatnonzero(table.ids % np.uint64(options.num_shards) == index)
        equal, near = (np.isin(table.ranks[rows], duplicates[name]) for name in ("equal", "near"))
        counts["rejections", f"{_KINDS[dataset]}: duplicate"] += int(equal.sum())
        counts["rejections", f"{_KINDS[dataset]}: near-duplicate"] += int(near.sum())
        rows = rows[~(equal | near)]
        counts.update(_counts_of(table, rows, dataset))
        frames = read_frames(chunk, table, rows)
        kept += zip(table.ids[rows].tolist(), table.splits[rows].tolist(), frames, strict=True)
    kept.sort(key=lambda record: record[0])
    return {
        "counts": [(key, n) for key, n in counts.items() if n],
        "shards": [
            dataclasses.asdict(_write(kept, number, dataset, index=index, options=options))
            for number in range(len(SPLITS))
        ],
    }


def _write(
    kept: Sequence[tuple[int, int, bytes]],
    split: int,
    dataset: str,
    *,
    index: int,
    options: BuildOptions,
) -> ShardInfo:
    name = SPLITS[split]
    path = shard_path(
        options.out_dir, dataset, split=name, index=index, num_shards=options.num_shards
    )
    frames = [frame for _, own, frame in kept if own == split]
    return write_shard(path, frames, dataset=dataset, split=name, index=index)


def _counts_of(table: Table, rows: np.ndarray, dataset: str) -> Counts:
    counts: Counts = collections.Counter()
    columns = (table.splits, table.languages, table.licenses, table.documented)
    for values in zip(*(column[rows].tolist() for column in columns), strict=True):
        split, language, documented = SPLITS[values[0]], _LANGUAGES[values[1]], values[3]
        license = str(table.license_names[values[2]])
        for kind in (dataset, "pairs") if documented else (dataset,):
            counts[f"splits {split}", kind] += 1
            counts[f"languages {language} {split}", kind] += 1
            counts[f"licenses {license}", kind] += 1
    return counts


class AddUp(beam.CombineFn):
    """Adds up counts and gathers the shards that were written."""

    def create_accumulator(self) -> Counted:
        """Returns the summary of nothing."""
        return {"counts": [], "shards": []}

    def add_input(self, accumulator: Counted, element: Counted) -> Counted:
        """Returns `accumulator` with `element` added."""
        return self.merge_accumulators([accumulator, element])

    def merge_accumulators(self, accumulators: Iterable[Counted]) -> Counted:
        """Returns the sum of summaries."""
        counts: Counts = collections.Counter()
        shards: list[dict[str, Any]] = []
        for accumulator in accumulators:
            counts.update(dict(accumulator["counts"]))
            shards += accumulator["shards"]
        return {"counts": list(counts.items()), "shards": shards}

    def extract_output(self, accumulator: Counted) -> Counted:
        """Returns the summary, in a fixed order."""
        shards = sorted(accumulator["shards"], key=lambda s: (s["dataset"], s["split"], s["index"]))
        return {"counts": sorted(accumulator["counts"]), "shards": shards}


def build_graph(pipeline: beam.Pipeline, sources: Sequence[Source], options: BuildOptions) -> None:
    """Adds the build of `sources` to `pipeline`; it ends with a summary in the output folder."""
    found = (
        pipeline
        | "sources" >> beam.Create(list(sources))
        | "spread" >> beam.Reshuffle()
        | "extract" >> beam.Map(extracted, options)
    )
    chunks = beam.pvalue.AsSingleton(
        found
        | "their chunks" >> beam.FlatMap(lambda source: source.chunks)
        | "all chunks" >> beam.combiners.ToList()
    )
    stage = functools.partial(_stage, pipeline, chunks=chunks, options=options)
    pairs = stage("pairs", find_pairs, keys=[(d, band) for d in FEATURES for band in _BANDS])
    duplicates = stage("duplicates", find_duplicates, keys=[(d,) for d in FEATURES], after=pairs)
    every_shard = [(d, i) for d in FEATURES for i in range(options.num_shards)]
    written = stage("shards", write_shards, keys=every_shard, after=duplicates)
    counts = found | "counts" >> beam.Map(lambda source: {"counts": source.counts, "shards": []})
    (
        (written, counts)
        | "summaries" >> beam.Flatten()
        | "add up" >> beam.CombineGlobally(AddUp())
        | "summary" >> beam.Map(write_summary, options.out_dir)
    )


def _stage(
    pipeline: beam.Pipeline,
    name: str,
    function: Callable[[Task, BuildOptions], Any],
    *,
    keys: Sequence[Key],
    chunks: beam.pvalue.AsSingleton,
    options: BuildOptions,
    after: beam.PCollection | None = None,
) -> beam.PCollection:
    """Returns what `function` makes of each key, once all of `after` is there."""
    waits = [] if after is None else [beam.pvalue.AsIter(after)]
    return (
        pipeline
        | f"keys of {name}" >> beam.Create(list(keys))
        | f"chunks of {name}" >> beam.Map(_task, chunks, *waits)
        | f"spread {name}" >> beam.Reshuffle()
        | name >> beam.Map(function, options)
    )


def _task(key: Key, chunks: Iterable[tuple[str, str]], *_: Any) -> Task:
    return key, sorted(chunk for dataset, chunk in chunks if dataset == key[0])


def write_summary(summary: Counted, out_dir: str) -> None:
    """Writes the summary of a build."""
    _summary_path(out_dir).write_text(json.dumps(summary), encoding="utf-8")


def read_summary(out_dir: str) -> tuple[Counts, list[ShardInfo]]:
    """Returns the counts and the shards of a build that has ended."""
    summary = json.loads(_summary_path(out_dir).read_text(encoding="utf-8"))
    counts: Counts = collections.Counter({(kind, name): n for (kind, name), n in summary["counts"]})
    return counts, [ShardInfo(**shard) for shard in summary["shards"]]


def _summary_path(out_dir: str) -> epath.Path:
    return epath.Path(out_dir, "summary.json")


def run(sources: Sequence[Source], options: BuildOptions, pipeline_args: Sequence[str]) -> None:
    """Runs the build of `sources`; `pipeline_args` are Beam's options, for example `--runner`."""
    try:
        with beam.Pipeline(options=PipelineOptions(list(pipeline_args))) as pipeline:
            build_graph(pipeline, sources, options)
    except RuntimeError as error:
        # Beam adds the name of the stage to an error's text; one of a full disk has a number first.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise
