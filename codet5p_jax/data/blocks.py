"""Blocks of records: SeqIO preprocessors that pay TensorFlow's cost per operation once for many.

A block holds one value per feature for the same records (later: rows): sequences are
`tf.RaggedTensor` [rows, None], scalars are `tf.Tensor` [rows]. A block function maps a block to a
block, which may have another number of rows:

    function(block, seed=<two integers>, sequence_length={"inputs": 512, ...}) -> block

`BlockMap(function)` is a SeqIO preprocessor like any other. Our own reader takes the function out
of it and skips the way through single examples, which is what made SeqIO's pipeline slow.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import seqio
import tensorflow as tf

Block = dict[str, tf.Tensor | tf.RaggedTensor]
BlockFunction = Callable[..., Block]


@dataclasses.dataclass(frozen=True)
class BlockMap:
    """A SeqIO preprocessor that applies a block function to blocks of examples.

    Attributes:
        function: The block function.
        block_size: Examples per block, when SeqIO runs the pipeline.
        sequence_length: Set by SeqIO.
    """

    function: BlockFunction
    block_size: int = 64
    sequence_length: Mapping[str, int] | None = None

    def __call__(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the examples of the blocks that `function` makes of `dataset`."""
        blocks = seqio.map_over_dataset(self._map, num_seeds=1)(
            dataset.ragged_batch(self.block_size)
        )
        return blocks.unbatch().map(_dense, num_parallel_calls=tf.data.AUTOTUNE)

    def _map(self, block: Block, seed: tuple[tf.Tensor, tf.Tensor]) -> Block:
        ragged = {name: _ragged(values) for name, values in block.items()}
        return self.function(ragged, seed=tf.stack(seed), sequence_length=self.sequence_length)


def compose(preprocessors: Sequence[Callable]) -> BlockFunction:
    """Returns one block function that applies each of `preprocessors` in turn.

    A preprocessor that is no `BlockMap` is run by SeqIO's rules over the examples of the block.
    """
    functions = [block_function(preprocessor) for preprocessor in preprocessors]

    def composed(block: Block, *, seed: tf.Tensor, sequence_length: Mapping[str, int]) -> Block:
        for index, function in enumerate(functions):
            step_seed = tf.stack([seed[0] + index, seed[1]])
            block = function(block, seed=step_seed, sequence_length=sequence_length)
        return block

    return composed


def block_function(preprocessor: Callable) -> BlockFunction:
    """Returns the block function of a SeqIO preprocessor."""
    if isinstance(preprocessor, BlockMap):
        return preprocessor.function

    def function(block: Block, *, seed: tf.Tensor, sequence_length: Mapping[str, int]) -> Block:
        dataset = tf.data.Dataset.from_tensor_slices(block).map(_dense)
        arguments = {"sequence_length": sequence_length}
        with seqio.utils.map_seed_manager(tf.cast(seed[1], tf.int64)):
            dataset = seqio.utils.add_kwargs_to_transform(preprocessor, **arguments)(dataset)
        return dataset.ragged_batch(tf.int64.max).get_single_element()

    return function


def _dense(example: Block) -> Block:
    return {name: tf.convert_to_tensor(value) for name, value in example.items()}


def _ragged(values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor | tf.RaggedTensor:
    """Sequences of one static length come as dense tensors."""
    if isinstance(values, tf.Tensor) and values.shape.rank == 2:
        return tf.RaggedTensor.from_tensor(values, row_splits_dtype=tf.int32)
    return values
