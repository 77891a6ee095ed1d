"""Tests of codet5p_jax.training.slice_shapes."""

import pytest

from codet5p_jax.training.ahead_of_time import topology_devices
from codet5p_jax.training.chips import chip_of_generation
from codet5p_jax.training.slice_shapes import SLICE_SHAPES, chips_of, slice_topologies


@pytest.mark.parametrize("generation", SLICE_SHAPES)
def test_slices_grow_to_a_pod_of_256_chips(generation):
    chip_of_generation(generation)  # its figures are known
    chips = [chips_of(topology) for topology in slice_topologies(generation)]
    assert chips == sorted(set(chips)) and chips[-1] == 256
    assert all(topology.startswith(f"{generation}:") for topology in slice_topologies(generation))


def test_flat_slices_begin_with_a_chip_and_cubes_with_a_host():
    assert slice_topologies("v5e")[:3] == ["v5e:1x1", "v5e:2x2", "v5e:2x4"]
    assert slice_topologies("v5p")[0] == "v5p:2x2x1"
    assert chips_of("v5p:2x2x4") == 16


def test_an_unknown_generation_names_those_that_are_known():
    with pytest.raises(ValueError, match=r"'v9' are not known; give one of v4, v5e, v5p, v6e"):
        slice_topologies("v9")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topology": "v5e:4x4x4"}, "slices of v5e have 2 sides; give one such as v5e:4x8"),
        ({"topology": "v5e:4x4", "num_slices": 0}, "TOPOLOGY_SLICES is 0; give 1 or more"),
    ],
)
def test_slices_that_the_compiler_would_take_but_nobody_rents_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        topology_devices(**options)
