"""Pairs of documentation and code: text and code each become `<s> ... </s>`, cut to fit."""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from codet5p_jax.data.blocks import Block
from codet5p_jax.data.slices import enclose, row_bounds
from codet5p_jax.tokenizer import Tokenizer

BOUNDARY_TOKENS = 2  # <s> and </s>


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnclosePairs:
    """The block function of the bimodal tasks.

    Attributes:
        tokenizer: Its ids are used, nothing is encoded.
        names: Sides and what to call them; (("code", "inputs"), ("text", "targets")) for
            generating text.
    """

    tokenizer: Tokenizer
    names: tuple[tuple[str, str], ...] = (("text", "text"), ("code", "code"))

    def __call__(
        self, block: Block, *, seed: tf.Tensor, sequence_length: Mapping[str, int]
    ) -> Block:
        """Returns the pairs of `block`, each side at most as long as `sequence_length` says.

        Raises:
            ValueError: If a length has no room for a token.
        """
        self.check_lengths(sequence_length)
        sides = {new: self._enclose(block[old], sequence_length[new]) for old, new in self.names}
        return {**sides, "pair_id": block["pair_id"]}

    def check_lengths(self, sequence_length: Mapping[str, int]) -> None:
        """Raises ValueError if a side has no room for a token."""
        for _, name in self.names:
            if sequence_length[name] <= BOUNDARY_TOKENS:
                raise ValueError(
                    f"The lengths give {name!r} {sequence_length[name]} tokens; <s>, "
                    "</s> and a token between them need 3."
                )

    def _enclose(self, rows: tf.RaggedTensor, length: int) -> tf.RaggedTensor:
        starts, limits = row_bounds(rows)
        limits = tf.minimum(limits, starts + length - BOUNDARY_TOKENS)
        return enclose(
            rows.values, [self.tokenizer.bos_id], starts, limits, [self.tokenizer.eos_id]
        )
