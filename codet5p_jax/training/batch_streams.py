"""The batches of all streams of a run, with one position that is saved and restored whole."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class BatchIterator(Protocol):
    """Batches of one stream, with a position; what the data layer gives to training."""

    def __next__(self) -> Mapping[str, np.ndarray]:
        """Returns this process's rows of the next global batch."""

    def get_state(self) -> Mapping[str, np.ndarray]:
        """Returns the position after the last batch returned."""

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues after the batch that `state` was taken behind."""

    def close(self) -> None:
        """Frees what the iterator holds."""


OpenBatches = Callable[[Any], BatchIterator]  # dataset of a Stream -> its batches


class BatchStreams:
    """Opens streams when a phase first needs them, and restores each at its saved position."""

    def __init__(self, open_batches: OpenBatches, positions: Mapping[str, Any]) -> None:
        self._open_batches = open_batches
        self._positions = dict(positions)
        self._iterators: dict[str, BatchIterator] = {}

    def open(self, name: str, dataset: Any) -> None:
        """Opens the stream `name`, unless it is open."""
        if name in self._iterators:
            return
        iterator = self._open_batches(dataset)
        if name in self._positions:
            iterator.set_state(self._positions.pop(name))
        self._iterators[name] = iterator

    def next(self, name: str) -> Mapping[str, np.ndarray]:
        """Returns the next batch of an open stream."""
        return next(self._iterators[name])

    def positions(self) -> dict[str, Any]:
        """Returns the position of every stream, opened yet or not."""
        opened = {name: dict(it.get_state()) for name, it in self._iterators.items()}
        return {**self._positions, **opened}

    def close(self) -> None:
        """Closes all streams."""
        for iterator in self._iterators.values():
            iterator.close()
