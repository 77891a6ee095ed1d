"""Tests of codet5p_jax.objectives.mesh_axes."""

import pytest

from codet5p_jax.objectives.mesh_axes import mesh_axes_of, num_row_shards, row_axes
from codet5p_jax.training.partitioning import Partitioner


def _inside(partitioner):
    """Returns axes and parts of rows, as what is traced on a mesh finds them."""
    found = []
    partitioner.partition(lambda: found.append((row_axes(), num_row_shards())), (), None)()
    return found[0]


@pytest.mark.parametrize(
    "options, axes, parts",
    [
        ({}, ("data",), 8),
        ({"num_partitions": 2}, ("data",), 4),
        ({"num_slices": 2, "num_partitions": 2}, ("slice", "data"), 4),
        ({"num_partitions": 8}, (), 1),
        ({"logical_axis_rules": [("batch", None)]}, (), 1),
    ],
)
def test_rows_lie_along_the_axes_that_have_more_than_one_device(options, axes, parts):
    partitioner = Partitioner(**options)
    assert _inside(partitioner) == (axes, parts)
    assert partitioner.num_row_shards == parts


def test_outside_a_mesh_rows_lie_on_one_device():
    assert (row_axes(), num_row_shards()) == ((), 1)


@pytest.mark.parametrize(
    "target, axes", [(None, ()), ("data", ("data",)), (("slice", "data"), ("slice", "data"))]
)
def test_a_rule_names_no_axis_one_or_several(target, axes):
    assert mesh_axes_of(target) == axes
