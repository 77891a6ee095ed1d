"""Where the records of a task lie, and how to read a block of them from any byte on."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence

import seqio
import tensorflow as tf

from codet5p_jax.data.blocks import Block, BlockFunction, compose
from codet5p_jax.data.cached_split import sizes_path
from codet5p_jax.data.sources import RecordSource


@dataclasses.dataclass(frozen=True)
class CachedParser:
    """Serialized examples of SeqIO's offline cache -> a block.

    Attributes:
        features: (name, whether it is a sequence, dtype) of each feature.
    """

    features: tuple[tuple[str, bool, str], ...]

    def __call__(self, serialized: tf.Tensor, *, language: tf.Tensor | str) -> Block:
        """Returns the block: sequences ragged, scalars dense. All records are of one language."""
        parsed = tf.io.parse_example(
            serialized, {name: _stored(sequence, dtype) for name, sequence, dtype in self.features}
        )
        return {name: tf.cast(parsed[name], dtype) for name, _, dtype in self.features}


def _stored(sequence: bool, dtype: str) -> tf.io.RaggedFeature | tf.io.FixedLenFeature:
    stored = tf.int64 if dtype in ("int32", "bool") else tf.as_dtype(dtype)  # SeqIO's rule
    if sequence:
        return tf.io.RaggedFeature(stored, row_splits_dtype=tf.int32)
    return tf.io.FixedLenFeature([], stored)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordFiles:
    """The TFRecord files of one split of a task.

    Attributes:
        task: Name of the task.
        split: Name of the split.
        paths: The files, in order.
        parse: Serialized records -> block of those in a language.
        language: Argument of `parse`.
        preprocessors: What SeqIO would apply to the parsed records.
        num_records: Records in all the files.
    """

    task: str
    split: str
    paths: tuple[str, ...]
    parse: Callable[..., Block]
    language: str
    preprocessors: tuple[Callable, ...]
    num_records: int

    @property
    def pipeline(self) -> tuple:
        """Equal for files that the same compiled function can read."""
        return self.parse, tuple(id(preprocessor) for preprocessor in self.preprocessors)

    @property
    def block_function(self) -> BlockFunction:
        """The preprocessors as one function."""
        return compose(self.preprocessors)


def record_files(task: seqio.Task, *, split: str, use_cached: bool) -> RecordFiles:
    """Returns the files of `task` in SeqIO's offline cache, or those of its source.

    Raises:
        ValueError: If the task is not cached or its cache is damaged; or its source is not ours.
    """
    return _cached_files(task, split) if use_cached else _source_files(task, split)


def _cached_files(task: seqio.Task, split: str) -> RecordFiles:
    if not task.cache_dir:
        raise ValueError(
            f"Task {task.name!r} is in none of the cache directories "
            f"{seqio.utils.get_global_cache_dirs()}. Write it with `codet5p cache`, or set "
            "DatasetConfig.use_cached = False."
        )
    info = json.loads(_read(seqio.get_cached_info_path(task.cache_dir, split)))
    prefix, count = seqio.get_cached_tfrecord_prefix(task.cache_dir, split), info["num_shards"]
    paths = tuple(f"{prefix}-{index:05d}-of-{count:05d}" for index in range(count))
    _check_sizes(paths, sizes_path(task.cache_dir, split))
    names = [(name, bool(spec["shape"]), spec["dtype"]) for name, spec in info["features"].items()]
    steps = list(task.preprocessors)
    placeholder = next(
        i for i, step in enumerate(steps) if isinstance(step, seqio.CacheDatasetPlaceholder)
    )
    return RecordFiles(
        task=task.name,
        split=split,
        paths=paths,
        parse=CachedParser(tuple(sorted(names))),
        language="",
        preprocessors=tuple(steps[placeholder + 1 :]),
        num_records=task.get_cached_stats(split)["examples"],
    )


def _source_files(task: seqio.Task, split: str) -> RecordFiles:
    source = task.source
    if not isinstance(source, RecordSource):
        raise ValueError(
            f"Task {task.name!r} reads from a {type(source).__name__}, which can be read from any "
            "position only through the offline cache. Write it with `codet5p cache`, and set "
            "DatasetConfig.use_cached = True."
        )
    steps = [p for p in task.preprocessors if not isinstance(p, seqio.CacheDatasetPlaceholder)]
    return RecordFiles(
        task=task.name,
        split=split,
        paths=tuple(source.list_shards(split)),
        parse=source.parser,
        language=source.language,
        preprocessors=tuple(steps),
        num_records=source.num_input_examples(split) or 0,
    )


def _check_sizes(paths: Sequence[str], sizes: str) -> None:
    """Compares the record files with what was written; SeqIO's own tool notes no sizes.

    Raises:
        ValueError: If a file is missing, or has another size.
    """
    written = json.loads(_read(sizes)) if tf.io.gfile.exists(sizes) else {}
    for path in paths:
        expected = written.get(os.path.basename(path))
        size = tf.io.gfile.stat(path).length if tf.io.gfile.exists(path) else None
        if size is None or (expected is not None and size != expected):
            found = "is missing" if size is None else f"has {size:,} bytes, not {expected:,}"
            raise ValueError(
                f"Record file {path!r} {found}. Delete its directory and write it again with "
                "`codet5p cache`."
            )


def _read(path: str) -> str:
    with tf.io.gfile.GFile(path) as file:
        return file.read()
