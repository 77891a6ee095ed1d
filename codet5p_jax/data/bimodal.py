"""Pairs of documentation and code: text and code each become `<s> ... </s>`, cut to fit.

As examples of writing one from the other (CodeT5+, section 3.2), the other begins with its task
token in place of `<s>`, as the released models have it:

    text to code    <s> text </s>  ->  [CDEC] code </s>
    code to text    <s> code </s>  ->  [TDEC] text </s>

Both sides of a pair are what an encoder reads, and so begin with `<s>` whatever targets do.
"""

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
        first_ids: New name of a side and the id that it begins with in place of `<s>`.
        with_ids: Whether `pair_id` is kept.
    """

    tokenizer: Tokenizer
    names: tuple[tuple[str, str], ...] = (("text", "text"), ("code", "code"))
    first_ids: tuple[tuple[str, int], ...] = ()
    with_ids: bool = True

    def __call__(
        self, block: Block, *, seed: tf.Tensor, sequence_length: Mapping[str, int]
    ) -> Block:
        """Returns the pairs of `block`, each side at most as long as `sequence_length` says.

        Raises:
            ValueError: If a length has no room for a token.
        """
        self.check_lengths(sequence_length)
        first = dict(self.first_ids)
        bos = self.tokenizer.bos_id
        sides = {
            new: self._enclose(block[old], sequence_length[new], first=first.get(new, bos))
            for old, new in self.names
        }
        return {**sides, "pair_id": block["pair_id"]} if self.with_ids else sides

    def check_lengths(self, sequence_length: Mapping[str, int]) -> None:
        """Raises ValueError if a side has no room for a token."""
        for _, name in self.names:
            if sequence_length[name] <= BOUNDARY_TOKENS:
                raise ValueError(
                    f"The lengths give {name!r} {sequence_length[name]} tokens; <s>, "
                    "</s> and a token between them need 3."
                )

    def _enclose(self, rows: tf.RaggedTensor, length: int, *, first: int) -> tf.RaggedTensor:
        starts, limits = row_bounds(rows)
        limits = tf.minimum(limits, starts + length - BOUNDARY_TOKENS)
        return enclose(rows.values, [first], starts, limits, [self.tokenizer.eos_id])


def text_to_code(tokenizer: Tokenizer) -> EnclosePairs:
    """Returns the block function of writing code: `inputs` are the text, `targets` the code."""
    return _translation(tokenizer, "text", "code", first=tokenizer.cdec_id)


def code_to_text(tokenizer: Tokenizer) -> EnclosePairs:
    """Returns the block function of writing text: `inputs` are the code, `targets` the text."""
    return _translation(tokenizer, "code", "text", first=tokenizer.tdec_id)


def _translation(tokenizer: Tokenizer, source: str, target: str, *, first: int) -> EnclosePairs:
    return EnclosePairs(
        tokenizer=tokenizer,
        names=((source, "inputs"), (target, "targets")),
        first_ids=(("targets", first),),
        with_ids=False,
    )
