"""The shapes of TPU slices that can be rented, from the smallest on."""

import importlib.util
import math
import re
import sys
from collections.abc import Mapping, Sequence

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBIC = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8")  # to 256 chips

# docs.cloud.google.com/tpu/docs, the page of each version. v4 and v5p have more shapes and larger
# slices; these are the most cubic of each number of chips, which have the best links.
SLICE_SHAPES: Mapping[str, Sequence[str]] = {
    "v4": _CUBIC,
    "v5e": _FLAT,
    "v5p": _CUBIC,
    "v6e": _FLAT,
}


def slice_topologies(generation: str) -> Sequence[str]:
    """Returns the topologies of a TPU generation, one of each number of chips, in rising order.

    Args:
        generation: Such as "v5e".

    Raises:
        ValueError: Its slices are not known.
    """
    if generation not in SLICE_SHAPES:
        raise ValueError(
            f"The shapes of {generation!r} are not known; give one of {', '.join(SLICE_SHAPES)}."
        )
    return [f"{generation}:{shape}" for shape in SLICE_SHAPES[generation]]


def check_sides(topology: str) -> None:
    """Raises ValueError for a shape of too few or too many sides: the compiler would take some.

    Args:
        topology: Such as "v5e:4x4"; of a generation that is not known any number of sides goes.
    """
    generation, _, shape = topology.partition(":")
    if not re.fullmatch(r"\d+(x\d+)+", shape):
        raise ValueError(
            f"TOPOLOGY is {topology!r}; give a generation and the shape of a slice in chips, such "
            "as v5e:4x4 or v4:2x2x2."
        )
    known = SLICE_SHAPES.get(generation)
    if not known:
        return  # said where the generation is read
    example = known[len(known) // 2]
    sides = example.count("x") + 1
    if shape.count("x") + 1 != sides:
        raise ValueError(
            f"The topology is {topology!r}, and slices of {generation} have {sides} sides; give "
            f"one such as {generation}:{example}."
        )


def chips_of(topology: str) -> int:
    """Returns the number of chips of a slice.

    Args:
        topology: Such as "v5e:4x4".
    """
    return math.prod(map(int, topology.partition(":")[2].split("x")))


def check_compiler() -> None:
    """Raises ImportError where libtpu, the compiler for slices, is not installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise ImportError(
            "Compiling for TPUs needs libtpu. Install it: "
            f"{sys.executable} -m pip install 'codet5p_jax[tpu]'"
        )
