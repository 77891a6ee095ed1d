"""Rows of a batch from the examples of a virtual shard: one per row, or as many as fit."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from codet5p_jax.data.feature_converters import Arrays
from codet5p_jax.data.sequences import CODET5_IDS, SequenceIds
from codet5p_jax.data.task_stream import Example


@runtime_checkable
class Examples(Protocol):
    """Where examples come from: a virtual shard."""

    def peek(self) -> Example | None:
        """Returns the next example without taking it; None at the end."""

    def advance(self) -> None:
        """Takes the example that `peek` returned."""


def empty_batch(
    batch: int,
    *,
    lengths: Mapping[str, int],
    scalars: tuple[str, ...],
    pack: bool,
    ids: SequenceIds = CODET5_IDS,
) -> Arrays:
    """Returns padding: [batch, length] per sequence and its segments, [batch] per scalar.

    Segments and scalars of padding are 0.
    """
    sequences = {
        name: np.full([batch, length], ids.padding(name), np.int32)
        for name, length in lengths.items()
    }
    segments = {
        f"{name}_segment_ids": np.zeros([batch, length], np.int32)
        for name, length in lengths.items()
        if pack
    }
    return {**sequences, **segments, **{name: np.zeros([batch], np.int32) for name in scalars}}


def place(batch: Arrays, index: int, *, shard: Examples) -> bool:
    """Writes the next example of `shard` into row `index`; False when there is none."""
    example = shard.peek()
    if example is None:
        return False
    for name, values in example.features.items():
        batch[name][index] = values[example.row]
    shard.advance()
    return True


def place_packed(
    batch: Arrays, rows: Sequence[int], *, shard: Examples, lengths: Mapping[str, int]
) -> int:
    """Writes examples of `shard` into `rows`, each into the first that has room for it.

    Examples are never split, and are taken in order until one fits into no row: so the position of
    the shard between two batches says all. Returns the number of rows that hold an example.
    """
    used = {name: np.zeros(len(rows), int) for name in lengths}
    segments = np.zeros(len(rows), int)
    while (example := shard.peek()) is not None:
        sizes = {name: int(example.lengths[name][example.row]) for name in lengths}
        has_room = np.logical_and.reduce(
            [used[name] + sizes[name] <= lengths[name] for name in lengths]
        )
        if not has_room.any():
            break
        row = int(has_room.argmax())
        segments[row] += 1
        for name, size in sizes.items():
            span = slice(used[name][row], used[name][row] + size)
            batch[name][rows[row], span] = example.features[name][example.row, :size]
            batch[f"{name}_segment_ids"][rows[row], span] = segments[row]
            used[name][row] += size
        shard.advance()
    return int(np.count_nonzero(segments))


def segment_positions(segment_ids: np.ndarray) -> np.ndarray:
    """Returns the position of each token in its segment, 0 on padding: int32 [batch, length].

    segment_positions([[1, 1, 2, 2, 2, 0]]) -> [[0, 1, 0, 1, 2, 0]]
    """
    index = np.arange(segment_ids.shape[1], dtype=np.int32)[np.newaxis]
    starts = np.zeros_like(segment_ids)
    starts[:, 1:] = np.where(segment_ids[:, 1:] != segment_ids[:, :-1], index[:, 1:], 0)
    positions = index - np.maximum.accumulate(starts, axis=1)
    return np.where(segment_ids == 0, 0, positions).astype(np.int32)
