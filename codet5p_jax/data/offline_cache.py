"""Writes SeqIO's offline cache on one machine, in the format of `seqio_cache_tasks`.

That tool runs the same tasks through Apache Beam, for corpora that outgrow a machine; it handles
one example at a time. Here records are tokenized in blocks, and tasks that differ only behind the
`CacheDatasetPlaceholder` share one copy.
"""

import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import final

import seqio
import tensorflow as tf

from codet5p_jax.data.blocks import Block, compose
from codet5p_jax.data.cached_split import CachedSplitWriter
from codet5p_jax.data.sources import RecordSource

RECORDS_AT_ONCE = 1024
ORIGIN_FILE = "origin.json"

# (serialized records, language) -> block of what the cache stores
Precache = Callable[[tf.Tensor, str], Block]


@final
class OfflineCache:
    """A directory of cached tasks.

    Attributes:
        directory: Where; one of SeqIO's cache directories, from now on or later.
        num_files: Files per split; best a multiple of the virtual shards.
        on_records: Called with the number of records written since its last call.
    """

    def __init__(
        self,
        directory: str | pathlib.Path,
        *,
        num_files: int = 8,
        on_records: Callable[[int], None] = lambda count: None,
        origin: Mapping[str, str] | None = None,
    ):
        """Opens or creates the directory.

        Args:
            directory: Where.
            num_files: Files per split.
            on_records: Progress.
            origin: Fingerprints of what is cached; kept beside the tasks.

        Raises:
            ValueError: If the directory holds a cache of another origin.
        """
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        known = check_origin(self.directory, origin or {})
        contents = json.dumps({**known, **(origin or {})}, indent=2) + "\n"
        (self.directory / ORIGIN_FILE).write_text(contents)
        self.num_files = num_files
        self.on_records = on_records
        self._compiled: dict[tuple, Precache] = {}
        self._written: dict[tuple, pathlib.Path] = {}

    def is_complete(self, task: seqio.Task) -> bool:
        """Whether the cache of `task` is there and whole."""
        return (self.task_directory(task) / "COMPLETED").exists()

    def task_directory(self, task: seqio.Task) -> pathlib.Path:
        """Returns where SeqIO looks for the cache of `task`."""
        return self.directory / seqio.get_task_dir_from_name(task.name)

    def write(self, task: seqio.Task) -> None:
        """Writes the cache of `task`; one that is complete is left alone.

        Tasks written before with the same source and the same steps before the placeholder share
        their files.

        Raises:
            ValueError: If the task does not read a corpus, or has no placeholder.
        """
        if self.is_complete(task):
            return
        source, steps = _cacheable(task)
        key = (id(source), *map(id, steps))
        target = self.task_directory(task)
        if key in self._written:
            _link(self._written[key], target)
        else:
            self._write(source, steps, task.splits, target)
            self._written[key] = target

    def _write(
        self,
        source: RecordSource,
        steps: Sequence[Callable],
        splits: Sequence[str],
        target: pathlib.Path,
    ) -> None:
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir(parents=True)
        for split in splits:
            self._write_split(source, self._precache(source, steps), split, partial)
        (partial / "COMPLETED").touch()
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)

    def _write_split(
        self, source: RecordSource, precache: Precache, split: str, directory: pathlib.Path
    ) -> None:
        empty = precache(tf.constant([], tf.string), source.language)
        files = list(source.list_shards(split)) if source.num_input_examples(split) else []
        records = tf.data.TFRecordDataset(files).batch(RECORDS_AT_ONCE).prefetch(2)
        with CachedSplitWriter(
            directory, split, num_files=self.num_files, empty_block=empty
        ) as writer:
            for serialized in records:
                before = writer.num_examples
                writer.write(precache(serialized, source.language))
                self.on_records(writer.num_examples - before)

    def _precache(self, source: RecordSource, steps: Sequence[Callable]) -> Precache:
        """Returns the steps as one function, compiled once for all languages."""
        parse, function = source.parser, compose(steps)
        key = (parse, *map(id, steps))
        if key not in self._compiled:
            self._compiled[key] = tf.function(
                lambda serialized, language: function(
                    parse(serialized, language=language),
                    seed=tf.zeros([2], tf.int32),
                    sequence_length={},
                ),
                autograph=False,
                input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.string)],
            )
        return self._compiled[key]


def check_origin(directory: str | pathlib.Path, expected: Mapping[str, str]) -> dict[str, str]:
    """Returns the fingerprints that a cache was written with; a new cache has none.

    Raises:
        ValueError: If one differs; the message says which.
    """
    path = pathlib.Path(directory) / ORIGIN_FILE
    origin = json.loads(path.read_text()) if path.exists() else {}
    for name in sorted(origin.keys() & expected.keys()):
        if origin[name] != expected[name]:
            raise ValueError(
                f"The cache in {str(directory)!r} was written with {name} {origin[name]!r}, not "
                f"{expected[name]!r}. Write another one: codet5p cache --out=DIR."
            )
    return origin


def _cacheable(task: seqio.Task) -> tuple[RecordSource, list[Callable]]:
    """Returns the source, and the steps before the placeholder."""
    if not isinstance(task.source, RecordSource):
        raise ValueError(
            f"Task {task.name!r} reads from a {type(task.source).__name__}; `codet5p cache` reads "
            "corpora and instructions. Write its cache with `seqio_cache_tasks`."
        )
    steps = list(task.preprocessors)
    for index, step in enumerate(steps):
        if isinstance(step, seqio.CacheDatasetPlaceholder):
            return task.source, steps[:index]
    raise ValueError(f"Task {task.name!r} has no CacheDatasetPlaceholder: nothing to cache.")


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    """Makes `target` a second name of the files in `source`, or a copy of them."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    names = sorted(path.name for path in source.iterdir() if path.name != "COMPLETED")
    for name in [*names, "COMPLETED"]:  # the marker last
        try:
            os.link(source / name, target / name)
        except OSError:  # other file systems have no hard links
            shutil.copyfile(source / name, target / name)
