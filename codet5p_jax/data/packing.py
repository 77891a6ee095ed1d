"""Rows of a batch from the examples of a virtual shard: one per row, or as many as fit."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from codet5p_jax.data.feature_converters import Arrays
from codet5p_jax.data.task_stream import Example


@runtime_checkable
class Examples(Protocol):
    """Where examples come from: a virtual shard."""

    def peek(self) -> Example | None:
        """Returns the next example without taking it; None at the end."""

    def advance(self) -> None:
        """Takes the example that `peek` returned."""


def empty_batch(
    batch: int, *, lengths: Mapping[str, int], scalars: tuple[str, ...], pack: bool
) -> Arrays:
    """Returns zeros: [batch, length] per sequence and its segments, [batch] per scalar."""
    suffixes = ("", "_segment_ids") if pack else ("",)
    sequences = {
        name + suffix: np.zeros([batch, length], np.int32)
        for name, length in lengths.items()
        for suffix in suffixes
    }
    return {**sequences, **{name: np.zeros([batch], np.int32) for name in scalars}}


def place(batch: Arrays, index: int, *, shard: Examples) -> bool:
    """Writes the next example of `shard` into row `index`; False when there is none."""
    example = shard.peek()
    if example is None:
        return False
    for name, values in example.features.items():
        batch[name][index] = values[example.row]
    shard.advance()
    return True


def place_packed(batch: Arrays, index: int, *, shard: Examples, lengths: Mapping[str, int]) -> bool:
    """Writes examples of `shard` into row `index` until the next does not fit.

    Examples are never split or reordered. Returns False when there is no example.
    """
    used = dict.fromkeys(lengths, 0)
    segment = 0
    while (example := shard.peek()) is not None:
        sizes = {name: int(example.lengths[name][example.row]) for name in lengths}
        if any(used[name] + sizes[name] > lengths[name] for name in lengths):
            break
        segment += 1
        for name, size in sizes.items():
            span = slice(used[name], used[name] + size)
            batch[name][index, span] = example.features[name][example.row, :size]
            batch[f"{name}_segment_ids"][index, span] = segment
            used[name] = span.stop
        shard.advance()
    return segment > 0


def segment_positions(segment_ids: np.ndarray) -> np.ndarray:
    """Returns the position of each token in its segment, 0 on padding: int32 [batch, length].

    segment_positions([[1, 1, 2, 2, 2, 0]]) -> [[0, 1, 0, 1, 2, 0]]
    """
    index = np.arange(segment_ids.shape[1], dtype=np.int32)[np.newaxis]
    starts = np.zeros_like(segment_ids)
    starts[:, 1:] = np.where(segment_ids[:, 1:] != segment_ids[:, :-1], index[:, 1:], 0)
    positions = index - np.maximum.accumulate(starts, axis=1)
    return np.where(segment_ids == 0, 0, positions).astype(np.int32)
