import numpy as np
import pytest

from codet5p_jax.models.padding import padded, rounded_up


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [[1, 2, 3], [4, 9, 9], [9, 9, 9]]),
        ({"multiple": 2}, [[1, 2, 3, 9], [4, 9, 9, 9], [9, 9, 9, 9]]),
        ({"length": 5}, [[1, 2, 3, 9, 9], [4, 9, 9, 9, 9], [9, 9, 9, 9, 9]]),
    ],
)
def test_rows_are_padded_behind_to_one_length(arguments, expected):
    rows = padded([[1, 2, 3], (4,), []], pad_id=9, **arguments)
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(rows, expected)


def test_a_length_is_rounded_up_and_a_multiple_stays():
    assert [rounded_up(n, 64) for n in (1, 64, 65)] == [64, 64, 128]
