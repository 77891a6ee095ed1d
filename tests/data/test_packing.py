import numpy as np

from codet5p_jax.data.packing import empty_batch, place, place_packed, segment_positions
from codet5p_jax.data.task_stream import Example

LENGTHS = {"inputs": 6, "targets": 8}


class _Examples:
    """A shard of given (inputs, targets) sizes; tokens of example i are i + 1."""

    def __init__(self, *sizes):
        self._rows = [self._row(i + 1, *size) for i, size in enumerate(sizes)]

    @staticmethod
    def _row(token, inputs, targets):
        features = {name: np.zeros([1, length], np.int32) for name, length in LENGTHS.items()}
        features["inputs"][0, :inputs] = features["targets"][0, :targets] = token
        return Example(features, {"inputs": np.array([inputs]), "targets": np.array([targets])}, 0)

    def peek(self):
        return self._rows[0] if self._rows else None

    def advance(self):
        self._rows = self._rows[1:]


def _pack(shard, rows):
    batch = empty_batch(rows, lengths=LENGTHS, scalars=(), pack=True)
    return batch, place_packed(batch, range(rows), shard=shard, lengths=LENGTHS)


def test_examples_share_a_row_until_one_side_is_full():
    batch, filled = _pack(_Examples((2, 3), (2, 3), (2, 3)), rows=2)
    assert filled == 2
    assert batch["inputs"].tolist() == [[1, 1, 2, 2, 0, 0], [3, 3, 0, 0, 0, 0]]
    assert batch["targets"].tolist() == [[1, 1, 1, 2, 2, 2, 0, 0], [3, 3, 3, 0, 0, 0, 0, 0]]


def test_segments_count_from_one():
    batch, _ = _pack(_Examples((2, 3), (2, 3)), rows=1)
    assert batch["inputs_segment_ids"].tolist() == [[1, 1, 2, 2, 0, 0]]
    assert batch["targets_segment_ids"].tolist() == [[1, 1, 1, 2, 2, 2, 0, 0]]


def test_positions_restart_in_every_segment():
    segment_ids = np.array([[1, 1, 2, 2, 2, 0], [1, 2, 3, 3, 0, 0], [0, 0, 0, 0, 0, 0]], np.int32)
    assert segment_positions(segment_ids).tolist() == [
        [0, 1, 0, 1, 2, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_an_example_goes_into_the_first_row_with_room_for_it():
    batch, _ = _pack(_Examples((4, 1), (4, 1), (2, 1), (1, 6)), rows=2)
    assert batch["inputs"].tolist() == [[1, 1, 1, 1, 3, 3], [2, 2, 2, 2, 4, 0]]
    assert batch["targets"].tolist() == [[1, 3, 0, 0, 0, 0, 0, 0], [2, 4, 4, 4, 4, 4, 4, 0]]
    assert batch["targets_segment_ids"][1].tolist() == [1, 2, 2, 2, 2, 2, 2, 0]


def test_an_example_that_fits_into_no_row_stays_and_so_do_those_behind_it():
    shard = _Examples((4, 1), (4, 1), (1, 1))
    batch, filled = _pack(shard, rows=1)
    assert filled == 1 and shard.peek().features["inputs"][0, 0] == 2
    assert 3 not in batch["inputs"]


def test_an_example_may_fill_a_row():
    batch, filled = _pack(_Examples((6, 8)), rows=1)
    assert filled == 1 and (batch["targets"] == 1).all()


def test_rows_behind_the_end_are_padding():
    batch, filled = _pack(_Examples((1, 1)), rows=2)
    assert filled == 1 and not batch["inputs_segment_ids"][1].any()


def test_unpacked_rows_hold_one_example_each():
    batch = empty_batch(3, lengths=LENGTHS, scalars=(), pack=False)
    shard = _Examples((2, 3), (6, 1))
    assert [place(batch, i, shard=shard) for i in range(3)] == [True, True, False]
    assert batch["inputs"].tolist() == [[1, 1, 0, 0, 0, 0], [2] * 6, [0] * 6]
    assert set(batch) == {"inputs", "targets"}
