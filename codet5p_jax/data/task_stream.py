"""The rows of one task in one virtual shard, in an order that depends on the seed alone."""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple, final

import numpy as np
import tensorflow as tf

from codet5p_jax.data.block_reader import BlockAddress, BlockReader
from codet5p_jax.data.record_files import RecordFiles
from codet5p_jax.data.seeds import Key, random_order, tensorflow_seed

SMALL_TASK = 16  # records per virtual shard
MANY_FILES = 8  # files per virtual shard


class Position(NamedTuple):
    """The next row of a stream: four integers say everything there is to save.

    Attributes:
        epoch: Passes over the shard already made.
        file: Index into the files of the shard, in the order of this epoch.
        offset: Byte in that file where the block begins.
        row: Rows of the block already taken.
    """

    epoch: int
    file: int
    offset: int
    row: int


class Example(NamedTuple):
    """One example: row `row` of every array in `features`; its sequences end before padding."""

    features: Mapping[str, np.ndarray]
    lengths: Mapping[str, np.ndarray]
    row: int


class _Block(NamedTuple):
    features: Mapping[str, np.ndarray]
    lengths: Mapping[str, np.ndarray]
    order: np.ndarray
    successor: Position


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardFiles:
    """The part of a task's records that belongs to one virtual shard.

    Attributes:
        paths: Files to read.
        stride: The shard takes every stride-th record of each file ...
        phase: ... beginning with this one in the first file, with the next in the second.
        language: Language of the records to keep, where files mix languages.
    """

    paths: tuple[str, ...]
    stride: int
    phase: int
    language: str


def shard_files(
    files: RecordFiles, *, shard: int, num_shards: int, num_epochs: int | None
) -> ShardFiles:
    """Returns the part of `files` that belongs to virtual shard `shard`.

    Whole files where they divide evenly, or are so many that it matters little; else every
    num_shards-th record. A small task is read whole by each shard, in its own order, so that none
    is without; except where each record is wanted exactly num_epochs times.
    """
    part = functools.partial(ShardFiles, language=files.language)
    count = len(files.paths)
    if num_epochs is None and files.num_records < SMALL_TASK * num_shards:
        return part(paths=files.paths, stride=1, phase=0)
    if count % num_shards == 0 or count >= MANY_FILES * num_shards:
        return part(paths=files.paths[shard::num_shards], stride=1, phase=0)
    return part(paths=files.paths, stride=num_shards, phase=shard)


@final
class TaskStream:
    """Iterates over the rows of a task in a virtual shard; `position` can be set at any time.

    Records come in blocks. Files are shuffled per epoch, records and rows per block, each with
    a seed made from the position, so that nothing but the position has to be saved.
    """

    def __init__(
        self,
        reader: BlockReader,
        files: ShardFiles,
        *,
        key: Key,
        shuffle: bool,
        num_epochs: int | None,
        executor: concurrent.futures.Executor,
    ):
        """Reads nothing yet.

        Args:
            reader: Reads blocks of this task.
            files: What belongs to the shard.
            key: Run seed, task and shard; the root of all randomness here.
            shuffle: Whether files and rows are shuffled.
            num_epochs: Passes to make; None for no end.
            executor: Reads the following block ahead.
        """
        self._reader = reader
        self._files = files
        self._key = key
        self._shuffle = shuffle
        self._num_epochs = num_epochs
        self._executor = executor
        self._sizes: dict[str, int] = {}
        self._loaded: dict[Position, concurrent.futures.Future[_Block]] = {}
        self.position = Position(0, 0, 0, 0)

    def peek(self) -> Example | None:
        """Returns the next example without taking it; None at the end.

        Raises:
            ValueError: If a file is damaged, or a whole pass finds no row.
        """
        first_epoch = self.position.epoch
        while not self.exhausted:
            block = self._block()
            if self.position.row < block.order.size:
                row = int(block.order[self.position.row])
                return Example(block.features, block.lengths, row)
            self._leave(block)
            if self.position.epoch > first_epoch + 1:
                raise ValueError(
                    f"A pass over {len(self._files.paths)} files found no example of task "
                    f"{self._key[1]!r} for virtual shard {self._key[2]}. Lower "
                    "DatasetConfig.num_virtual_shards, or write the cache with fewer files."
                )
        return None

    def advance(self) -> None:
        """Takes the example that `peek` returned."""
        self.position = self.position._replace(row=self.position.row + 1)

    @property
    def exhausted(self) -> bool:
        """Whether all passes are made."""
        if not self._files.paths:
            return True
        return self._num_epochs is not None and self.position.epoch >= self._num_epochs

    def _block(self) -> _Block:
        start = self.position._replace(row=0)
        block = self._submit(start).result()
        successor = block.successor
        if self._num_epochs is None or successor.epoch < self._num_epochs:
            self._submit(successor)
        for position in [p for p in self._loaded if p not in (start, successor)]:
            self._loaded.pop(position).cancel()
        return block

    def _leave(self, block: _Block) -> None:
        self.position = block.successor

    def _submit(self, start: Position) -> concurrent.futures.Future[_Block]:
        if start not in self._loaded:
            self._loaded[start] = self._executor.submit(self._read, start)
        return self._loaded[start]

    def _read(self, start: Position) -> _Block:
        file = self._file(start)
        path = self._files.paths[file]
        key = (*self._key, start.epoch, file, start.offset)
        address = BlockAddress(
            path=path,
            offset=start.offset,
            stride=self._files.stride,
            phase=(self._files.phase + file) % self._files.stride,
            language=self._files.language,
            seed=tensorflow_seed(key),
        )
        if self._size(path) == 0:
            return _Block({}, {}, np.arange(0), self._successor(start, 0))
        features, lengths, end = self._reader.read(address)
        count = len(next(iter(features.values())))
        order = random_order(count, key=(*key, "rows")) if self._shuffle else np.arange(count)
        return _Block(features, lengths, order, self._successor(start, end))

    def _file(self, start: Position) -> int:
        if not self._shuffle:
            return start.file
        order = random_order(len(self._files.paths), key=(*self._key, start.epoch, "files"))
        return int(order[start.file])

    def _successor(self, start: Position, end: int) -> Position:
        if end < self._size(self._files.paths[self._file(start)]):
            return Position(start.epoch, start.file, end, 0)
        if start.file + 1 < len(self._files.paths):
            return Position(start.epoch, start.file + 1, 0, 0)
        return Position(start.epoch + 1, 0, 0, 0)

    def _size(self, path: str) -> int:
        if path not in self._sizes:
            self._sizes[path] = tf.io.gfile.stat(path).length
        return self._sizes[path]
