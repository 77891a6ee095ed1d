"""Rows of a batch from the examples of a virtual shard: one per row, or as many as fit."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from codet5p_jax.data.feature_converters import Arrays
from codet5p_jax.data.task_stream import Row


@runtime_checkable
class Examples(Protocol):
    """Where examples come from: a virtual shard."""

    def peek(self) -> Row | None:
        """Returns the next example without taking it; None at the end."""

    def advance(self) -> None:
        """Takes the example that `peek` returned."""


def empty_batch(
    batch: int, *, lengths: Mapping[str, int], scalars: tuple[str, ...], pack: bool
) -> Arrays:
    """Returns zeros: [batch, length] per sequence, [batch] per scalar, and segments if packed."""
    suffixes = ("", "_segment_ids", "_positions") if pack else ("",)
    sequences = {
        name + suffix: np.zeros([batch, length], np.int32)
        for name, length in lengths.items()
        for suffix in suffixes
    }
    return {**sequences, **{name: np.zeros([batch], np.int32) for name in scalars}}


def place(batch: Arrays, index: int, *, shard: Examples) -> bool:
    """Writes the next example of `shard` into row `index`; False when there is none."""
    row = shard.peek()
    if row is None:
        return False
    for name, values in row.features.items():
        batch[name][index] = values[row.index]
    shard.advance()
    return True


def place_packed(batch: Arrays, index: int, *, shard: Examples, lengths: Mapping[str, int]) -> bool:
    """Writes examples of `shard` into row `index` until the next does not fit.

    Examples are never split or reordered. Returns False when there is no example.
    """
    used = dict.fromkeys(lengths, 0)
    segment = 0
    while (row := shard.peek()) is not None:
        examples = {name: _strip(row, name) for name in lengths}
        if any(used[name] + examples[name].size > lengths[name] for name in lengths):
            break
        segment += 1
        for name, tokens in examples.items():
            span = slice(used[name], used[name] + tokens.size)
            batch[name][index, span] = tokens
            batch[f"{name}_segment_ids"][index, span] = segment
            batch[f"{name}_positions"][index, span] = np.arange(tokens.size)
            used[name] = span.stop
        shard.advance()
    return segment > 0


def _strip(row: Row, name: str) -> np.ndarray:
    tokens = row.features[name][row.index]
    return tokens[: np.count_nonzero(tokens)]  # 0 is padding and never a token
