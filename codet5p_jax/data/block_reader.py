"""Reads rows of a task from any position of a record file, in one compiled function."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import final

import numpy as np
import tensorflow as tf

from codet5p_jax.data.blocks import Block
from codet5p_jax.data.damaged_files import damage_named
from codet5p_jax.data.record_files import RecordFiles
from codet5p_jax.data.sequences import CODET5_IDS, SequenceIds

BYTES_AROUND_RECORD = 16  # length, its checksum, checksum of the record
READ_BUFFER_BYTES = 1 << 18


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockAddress:
    """Which records make a block, and with which randomness.

    Attributes:
        path: The record file.
        offset: Byte of the first record.
        stride: Every stride-th record is taken ...
        phase: ... beginning with this one.
        language: Language of the records to keep, where files mix languages.
        seed: int32 [2].
    """

    path: str
    offset: int
    stride: int
    phase: int
    language: str
    seed: np.ndarray


@final
class BlockReader:
    """Reads blocks of records, and preprocesses them into rows of fixed lengths.

    The function is compiled once and serves every task with the same `RecordFiles.pipeline`, in
    every virtual shard: what differs between them is an argument.
    """

    def __init__(
        self,
        files: RecordFiles,
        *,
        sequence_length: Mapping[str, int],
        features: tuple[str, ...],
        block_size: int,
        shuffle: bool,
        ids: SequenceIds = CODET5_IDS,
    ):
        """Compiles nothing yet.

        Args:
            files: Files of any task with this pipeline.
            sequence_length: Length of each sequence feature.
            features: Features to keep, sequences and scalars.
            block_size: Records per block.
            shuffle: Whether the records of a block are shuffled before preprocessing.
            ids: What the rows are filled with.
        """
        self._parse: Callable[..., Block] = files.parse
        self._function = files.block_function
        self._sequence_length = dict(sequence_length)
        self._features = features
        self._block_size = block_size
        self._shuffle = shuffle
        self._ids = ids
        self._compiled = tf.function(
            self._read,
            autograph=False,
            input_signature=[
                tf.TensorSpec([], tf.string),
                tf.TensorSpec([], tf.int64),
                tf.TensorSpec([], tf.int64),
                tf.TensorSpec([], tf.int64),
                tf.TensorSpec([], tf.string),
                tf.TensorSpec([2], tf.int32),
            ],
        )

    def read(
        self, address: BlockAddress
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], int]:
        """Returns the rows of a block, their lengths, and the byte behind its last record.

        Sequences are int32 [rows, length], padded; their lengths, int32 [rows], tell how far.

        Raises:
            ValueError: If the file is damaged.
        """
        with damage_named(address.path, offset=address.offset):
            rows, lengths, end = self._compiled(*dataclasses.astuple(address))
        return _arrays(rows), _arrays(lengths), int(end)

    def _read(
        self,
        path: tf.Tensor,
        offset: tf.Tensor,
        stride: tf.Tensor,
        phase: tf.Tensor,
        language: tf.Tensor,
        seed: tf.Tensor,
    ) -> tuple[Block, Block, tf.Tensor]:
        serialized = _read_records(path, offset, self._block_size * stride)
        sizes = tf.cast(tf.strings.length(serialized), tf.int64) + BYTES_AROUND_RECORD
        mine = serialized[phase::stride]
        if self._shuffle:
            mine = tf.random.experimental.stateless_shuffle(mine, seed)
        mine = tf.ensure_shape(mine, [None])
        records = self._parse(mine, language=language)
        block = self._function(records, seed=seed, sequence_length=self._sequence_length)
        rows = {name: self._fixed(name, block[name]) for name in self._features}
        lengths = {name: self._lengths(name, block[name]) for name in self._sequence_length}
        return rows, lengths, offset + tf.reduce_sum(sizes)

    def _lengths(self, name: str, values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        if isinstance(values, tf.RaggedTensor):
            lengths = tf.cast(values.row_lengths(), tf.int32)
            return tf.minimum(lengths, self._sequence_length[name])
        return tf.fill(tf.shape(values)[:1], tf.shape(values)[1])  # all of one length

    def _fixed(self, name: str, values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        if isinstance(values, tf.RaggedTensor):
            length, padding = self._sequence_length[name], self._ids.padding(name)
            return values.to_tensor(default_value=padding, shape=[None, length])
        return values


def _arrays(block: Block) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in block.items()}


def _read_records(path: tf.Tensor, offset: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns up to `count` serialized records from byte `offset` on, checksums verified."""
    records = tf.raw_ops.TFRecordDatasetV2(
        filenames=path,
        compression_type="",
        buffer_size=READ_BUFFER_BYTES,
        byte_offsets=offset,
    )
    dataset = tf.data.experimental.from_variant(records, tf.TensorSpec([], tf.string))
    return dataset.batch(count).take(1).get_single_element()
