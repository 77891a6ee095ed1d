import numpy as np
import pytest

from codet5p_jax.data.task_stream import Example, Position
from codet5p_jax.data.virtual_shard import VirtualShard


class _Stream:
    """Rows numbered from 0, `size` of them."""

    def __init__(self, size=10**9):
        self.position = Position(0, 0, 0, 0)
        self._size = size

    def peek(self):
        row = self.position.row
        return Example({"row": np.arange(row, row + 1)}, {}, 0) if row < self._size else None

    def advance(self):
        self.position = self.position._replace(row=self.position.row + 1)


def _draw(shard, count):
    drawn = []
    for _ in range(count):
        before = shard.state[4::4]
        shard.advance() if shard.peek() else None
        drawn.append(int(np.argmax(shard.state[4::4] - before)))
    return drawn


def test_tasks_are_drawn_in_proportion_to_their_rates():
    shard = VirtualShard([_Stream(), _Stream(), _Stream()], [1.0, 2.0, 5.0], key=(0, 0))
    counts = np.bincount(_draw(shard, 4_000), minlength=3)
    assert abs(counts / 4_000 - np.array([1, 2, 5]) / 8).max() < 0.03


def test_shards_draw_independently():
    first, second = (
        _draw(VirtualShard([_Stream(), _Stream()], [1.0, 1.0], key=(0, i)), 64) for i in (0, 1)
    )
    assert first != second


def test_a_task_at_its_end_leaves_its_turn_to_the_next():
    shard = VirtualShard([_Stream(3), _Stream(5)], [1.0, 1.0], key=(0, 0))
    _draw(shard, 8)
    assert shard.peek() is None and shard.state.tolist() == [8, 0, 0, 0, 3, 0, 0, 0, 5]


def test_state_goes_back_to_where_it_was_taken():
    shard = VirtualShard([_Stream(), _Stream()], [1.0, 3.0], key=(0, 0))
    _draw(shard, 1_500)
    state = shard.state
    following = _draw(shard, 50)
    shard.state = state
    assert _draw(shard, 50) == following


def test_peeking_takes_nothing():
    shard = VirtualShard([_Stream()], [1.0], key=(0, 0))
    shard.peek()
    assert shard.state.tolist() == [0] * 5
    with pytest.raises(ValueError, match=r"shape \[9\]; a mixture of 1 tasks has \[5\]"):
        shard.state = np.zeros(9, np.int64)
