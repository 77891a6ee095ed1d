"""Sequences of ids as rows of one array, as the model reads them: padding stands behind."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def padded(
    sequences: Sequence[Sequence[int]], *, pad_id: int, length: int | None = None, multiple: int = 1
) -> Int[np.ndarray, "rows length"]:
    """Returns `sequences` as rows, padded behind with `pad_id`.

    padded([[5, 6, 7], [8]], pad_id=0) -> [[5, 6, 7], [8, 0, 0]]

    Args:
        sequences: Ids of each row.
        pad_id: Id of padding.
        length: Positions of a row. None: those of the longest.
        multiple: What these are rounded up to, so that few shapes are compiled.
    """
    if length is None:
        length = rounded_up(max(map(len, sequences)), multiple)
    rows = np.full([len(sequences), length], pad_id, np.int32)
    for row, ids in zip(rows, sequences, strict=True):
        row[: len(ids)] = ids
    return rows


def rounded_up(length: int, multiple: int) -> int:
    """Returns the first multiple of `multiple` from `length` on."""
    return -(-length // multiple) * multiple
