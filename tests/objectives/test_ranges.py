"""Tests of codet5p_jax.objectives.ranges."""

import dataclasses

import pytest

from codet5p_jax.objectives.ranges import Range, check_ranges


@dataclasses.dataclass
class Settings:
    share: object = 0.5
    count: object = 2
    length: object = None


RANGES = {
    "share": Range(least=0, most=1),
    "count": Range(least=1, whole=True, macro="PARTS"),
    "length": Range(least=1, whole=True, optional=True),
}


@pytest.mark.parametrize("good", [{}, {"share": 0}, {"share": 1.0}, {"count": 7}, {"length": 1}])
def test_values_within_their_range_pass(good):
    check_ranges(Settings(**good), RANGES)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"share": 1.5}, r"Settings\.share is 1\.5; it must be a number, in \[0, 1\]\. Set SHARE"),
        ({"share": float("nan")}, r"share is nan"),
        ({"share": "half"}, r"share is 'half'; it must be a number"),
        ({"share": None}, r"share is None; it must be a number"),
        ({"share": True}, r"share is True; it must be a number"),
        ({"count": 0}, r"count is 0; it must be a whole number, 1 or more\. Set PARTS in gin"),
        ({"count": 2.0}, r"count is 2\.0; it must be a whole number"),
        ({"count": float("inf")}, r"count is inf"),
        ({"length": 0}, r"length is 0; it must be a whole number, 1 or more, or None"),
    ],
)
def test_values_beyond_it_are_refused_by_name(bad, message):
    with pytest.raises(ValueError, match=message):
        check_ranges(Settings(**bad), RANGES)
