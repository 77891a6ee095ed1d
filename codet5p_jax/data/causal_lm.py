"""Causal language modeling (CodeT5+, section 3.1): files become (inputs, targets).

seq2seq        [CLM] first part of a file   ->  <s> the rest </s>
decoder only   [CLM]                        ->  <s> the whole </s>

Where the decoder's start is what begins a sequence, as in CodeGen, targets have no `<s>`.
"""

import dataclasses
import math
from collections.abc import Mapping

import tensorflow as tf

from codet5p_jax.data.blocks import Block
from codet5p_jax.data.chunking import cut_files
from codet5p_jax.data.slices import enclose
from codet5p_jax.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitAtPivot:
    """The block function of seq2seq causal language modeling.

    Attributes:
        tokenizer: Its ids are used, nothing is encoded.
        min_prefix: Smallest part to encode, as a share of the chunk.
        max_prefix: Largest part to encode, as a share of the chunk.
    """

    tokenizer: Tokenizer
    min_prefix: float = 0.1
    max_prefix: float = 0.9

    def __call__(
        self, block: Block, *, seed: tf.Tensor, sequence_length: Mapping[str, int]
    ) -> Block:
        """Returns `inputs` and `targets` of chunks of the files in `block`."""
        tokens = block["tokens"]
        starts, limits = cut_files(tokens, max_length=self.chunk_length(sequence_length))
        pivots = starts + self.prefix_lengths(limits - starts, seed)
        return {
            "inputs": enclose(tokens.values, [self.tokenizer.clm_id], starts, pivots, []),
            "targets": _targets(self.tokenizer, tokens.values, pivots, limits),
        }

    def check_lengths(self, sequence_length: Mapping[str, int]) -> None:
        """Raises ValueError if the lengths leave no room for two tokens."""
        self.chunk_length(sequence_length)

    def chunk_length(self, sequence_length: Mapping[str, int]) -> int:
        """Returns the tokens of the longest chunk that fits wherever its pivot falls.

        Raises:
            ValueError: If the lengths leave no room for two tokens.
        """
        inputs, targets = sequence_length["inputs"] - 1, sequence_length["targets"]
        most_targets = targets - _boundary_tokens(self.tokenizer)
        length = math.floor(min(inputs / self.max_prefix, most_targets / (1 - self.min_prefix)))
        if length < 2:
            raise ValueError(
                "Seq2seq causal language modeling needs room for [CLM] and a token in the inputs, "
                f"and for {_least_targets(self.tokenizer)} tokens in the targets; got "
                f"{dict(sequence_length)}."
            )
        return length

    def prefix_lengths(self, lengths: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns the tokens before the pivot of chunks of `lengths` tokens.

        Every number of tokens between the smallest and the largest share is as likely. The rest
        keeps at least one token, even where the shares leave no choice.
        """
        size = tf.cast(lengths, tf.float32)
        # The epsilon keeps 0.9 * 10 from being 8.999...
        low = tf.cast(tf.math.ceil(size * self.min_prefix - 1e-4), tf.int32)
        high = tf.cast(tf.math.floor(size * self.max_prefix + 1e-4), tf.int32)
        choices = tf.maximum(high - low + 1, 1)
        uniform = tf.random.stateless_uniform(tf.shape(lengths), seed)
        chosen = tf.cast(uniform * tf.cast(choices, tf.float32), tf.int32)
        return tf.minimum(low + tf.minimum(chosen, choices - 1), lengths - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictAll:
    """The block function of decoder-only causal language modeling.

    Attributes:
        tokenizer: Its ids are used, nothing is encoded.
    """

    tokenizer: Tokenizer

    def __call__(
        self, block: Block, *, seed: tf.Tensor, sequence_length: Mapping[str, int]
    ) -> Block:
        """Returns `inputs`, `[CLM]` alone, and `targets`, chunks of the files in `block`.

        Raises:
            ValueError: If the targets have no room for a token.
        """
        self.check_lengths(sequence_length)
        tokens = block["tokens"]
        room = sequence_length["targets"] - _boundary_tokens(self.tokenizer)
        starts, limits = cut_files(tokens, max_length=room)
        return {
            "inputs": enclose(tokens.values, [self.tokenizer.clm_id], starts, starts, []),
            "targets": _targets(self.tokenizer, tokens.values, starts, limits),
        }

    def check_lengths(self, sequence_length: Mapping[str, int]) -> None:
        """Raises ValueError if the targets have no room for a token."""
        least = _least_targets(self.tokenizer)
        if sequence_length["targets"] < least or sequence_length["inputs"] < 1:
            raise ValueError(
                "Decoder-only causal language modeling needs inputs of 1 token and targets of "
                f"{least} or more; got {dict(sequence_length)}."
            )


def _targets(
    tokenizer: Tokenizer, values: tf.Tensor, starts: tf.Tensor, limits: tf.Tensor
) -> tf.RaggedTensor:
    return enclose(values, list(tokenizer.target_prefix), starts, limits, [tokenizer.eos_id])


def _boundary_tokens(tokenizer: Tokenizer) -> int:
    """`<s>` and `</s>`, or `</s>` alone."""
    return len(tokenizer.target_prefix) + 1


def _least_targets(tokenizer: Tokenizer) -> int:
    return _boundary_tokens(tokenizer) + 1
