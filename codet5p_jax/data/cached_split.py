"""The files of one split in SeqIO's offline cache: records, what they hold, and how many."""

import collections
import contextlib
import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import final

import numpy as np
import seqio
import tensorflow as tf

from codet5p_jax.data.blocks import Block


@final
class CachedSplitWriter:
    """Writes blocks as examples, in turn into each of the files; a context manager.

    Attributes:
        num_examples: Examples written so far.
    """

    def __init__(
        self, directory: str | pathlib.Path, split: str, *, num_files: int, empty_block: Block
    ):
        """Opens the files.

        Args:
            directory: Directory of the task in the cache.
            split: Name of the split.
            num_files: Number of record files.
            empty_block: A block without rows, for names and types of the features.
        """
        self._directory = str(directory)
        self._split = split
        self._features = {name: _description(values) for name, values in empty_block.items()}
        self._counts: collections.Counter[str] = collections.Counter()
        self._files = contextlib.ExitStack()
        prefix = seqio.get_cached_tfrecord_prefix(self._directory, split)
        self._paths = [f"{prefix}-{index:05d}-of-{num_files:05d}" for index in range(num_files)]
        self._writers = [self._files.enter_context(tf.io.TFRecordWriter(p)) for p in self._paths]

    @property
    def num_examples(self) -> int:
        """Examples written so far."""
        return self._counts["examples"]

    def write(self, block: Block) -> None:
        """Appends the rows of `block`."""
        for example in _examples(block):
            writer = self._writers[self.num_examples % len(self._writers)]
            writer.write(_serialize(example))
            self._count(example)

    def __enter__(self) -> "CachedSplitWriter":
        return self

    def __exit__(self, error_type: type[BaseException] | None, *error: object) -> None:
        """Closes the files; without an error, writes SeqIO's info and stats, and our sizes."""
        self._files.close()
        if error_type is None:
            self._write_descriptions()

    def _count(self, example: Mapping[str, np.ndarray]) -> None:
        self._counts["examples"] += 1
        for name, values in example.items():
            longest = f"{name}_max_tokens"
            self._counts[f"{name}_tokens"] += values.size
            self._counts[longest] = max(self._counts[longest], values.size)

    def _write_descriptions(self) -> None:
        info = {
            "num_shards": len(self._writers),
            "features": self._features,
            "seqio_version": seqio.__version__,
        }
        stats = {"examples": 0, **self._counts}
        _write_json(seqio.get_cached_info_path(self._directory, self._split), info)
        _write_json(seqio.get_cached_stats_path(self._directory, self._split), stats)
        sizes = {pathlib.Path(path).name: pathlib.Path(path).stat().st_size for path in self._paths}
        _write_json(sizes_path(self._directory, self._split), sizes)


def sizes_path(directory: str, split: str) -> str:
    """Returns where the bytes of each record file are written down; SeqIO does not know it."""
    return str(pathlib.Path(directory) / f"sizes.{split}.json")


def _description(values: tf.Tensor | tf.RaggedTensor) -> dict[str, object]:
    """What SeqIO's info file says of a feature."""
    shape: list[None] = [None] if isinstance(values, tf.RaggedTensor) else []
    return {"shape": shape, "dtype": values.dtype.name}


def _examples(block: Block) -> Iterator[dict[str, np.ndarray]]:
    columns = {name: _rows(values) for name, values in block.items()}
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _rows(values: tf.Tensor | tf.RaggedTensor) -> list[np.ndarray]:
    if not isinstance(values, tf.RaggedTensor):
        return [np.atleast_1d(value) for value in values.numpy()]
    flat, splits = values.values.numpy(), values.row_splits.numpy()
    return [flat[start:end] for start, end in itertools.pairwise(splits)]


def _serialize(example: Mapping[str, np.ndarray]) -> bytes:
    features = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=values.tolist()))
        for name, values in example.items()
    }
    message = tf.train.Example(features=tf.train.Features(feature=features))
    return message.SerializeToString(deterministic=True)


def _write_json(path: str, contents: Mapping[str, object]) -> None:
    pathlib.Path(path).write_text(json.dumps(contents, indent=2, sort_keys=True) + "\n")
