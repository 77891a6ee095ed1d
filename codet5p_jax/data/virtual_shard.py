"""A virtual shard: the rows of a mixture's tasks, drawn in proportion to their rates."""

from collections.abc import Sequence
from typing import Protocol, final, runtime_checkable

import numpy as np

from codet5p_jax.data.seeds import Key, random_fractions
from codet5p_jax.data.task_stream import Example, Position

DRAWS_AT_ONCE = 1024


@runtime_checkable
class Examples(Protocol):
    """A stream of examples with a position: a `TaskStream`."""

    position: Position

    def peek(self) -> Example | None:
        """Returns the next example without taking it; None at the end."""

    def advance(self) -> None:
        """Takes the example that `peek` returned."""


@final
class VirtualShard:
    """An independent, deterministic stream of rows with its own small state."""

    def __init__(self, streams: Sequence[Examples], rates: Sequence[float], *, key: Key):
        """Draws rows of `streams` in proportion to `rates`, with randomness rooted in `key`."""
        self._streams = list(streams)
        self._bounds = np.cumsum(rates) / np.sum(rates)
        self._key = key
        self._draws = 0
        self._ahead: tuple[Examples, Example] | None = None
        self._choices: tuple[int, np.ndarray] = (-1, np.zeros(0))

    def peek(self) -> Example | None:
        """Returns the next example without taking it; None when all tasks are at their end."""
        if self._ahead is None:
            self._ahead = self._find()
        return None if self._ahead is None else self._ahead[1]

    def advance(self) -> None:
        """Takes the example that `peek` returned."""
        assert self._ahead is not None
        self._ahead[0].advance()
        self._ahead = None
        self._draws += 1

    @property
    def state(self) -> np.ndarray:
        """int64 [1 + 4 * tasks]: rows drawn so far, then the position of each task."""
        return np.array([self._draws, *(i for s in self._streams for i in s.position)], np.int64)

    @state.setter
    def state(self, state: np.ndarray) -> None:
        expected = 1 + 4 * len(self._streams)
        if state.shape != (expected,):
            raise ValueError(
                f"The data position has shape {list(state.shape)}; a mixture of "
                f"{len(self._streams)} tasks has [{expected}]. It was saved with another mixture."
            )
        self._ahead = None
        self._draws = int(state[0])
        for stream, position in zip(self._streams, state[1:].reshape(-1, 4), strict=True):
            stream.position = Position(*map(int, position))

    def _find(self) -> tuple[Examples, Example] | None:
        """Returns the stream drawn, or the next one that is not at its end, with its row."""
        first = self._draw()
        for offset in range(len(self._streams)):
            stream = self._streams[(first + offset) % len(self._streams)]
            row = stream.peek()
            if row is not None:
                return stream, row
        return None

    def _draw(self) -> int:
        batch, index = divmod(self._draws, DRAWS_AT_ONCE)
        if self._choices[0] != batch:
            fractions = random_fractions(DRAWS_AT_ONCE, key=(*self._key, "mixture", batch))
            self._choices = (batch, np.searchsorted(self._bounds, fractions, side="right"))
        return min(int(self._choices[1][index]), len(self._streams) - 1)
