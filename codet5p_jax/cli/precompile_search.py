"""The cheapest way to compute a recipe that fits: microbatches, remat, FSDP, mesh.

A compile takes a minute or more, so few are tried. Memory falls as MICROBATCHES grow: the fewest
that fit are found by bisection. A dearer layout (remat, then FSDP, then a split model) repays its
price only if it fits with fewer MICROBATCHES, so it is tried with fewer ones alone.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from codet5p_jax.cli.precompile_trials import Outcome, first_that_fits

MODEL_SIZES = (1, 2, 4)
MAX_MICROBATCHES = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How a step lies on the devices, but for its microbatches.

    Attributes:
        mesh: (data, model) of one slice.
        fsdp: Whether `data` splits parameters and optimizer state, too.
        remat: Name of a file of gin/remat.
    """

    mesh: tuple[int, int]
    fsdp: bool
    remat: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A layout, and the parts its batches are computed in."""

    layout: Layout
    microbatches: int

    @property
    def gin_file(self) -> str:
        """The gin file to give behind the recipe."""
        return f"remat/{self.layout.remat}.gin"

    @property
    def bindings(self) -> Sequence[str]:
        """NAME=VALUE, to give behind all other bindings."""
        data, model = self.layout.mesh
        return (
            "NUM_PARTITIONS=1",
            f"MESH_SHAPE=({data}, {model})",
            f"PARAMETER_PARTITIONING_DIMS={2 if self.layout.fsdp else 1}",
            f"MICROBATCHES={self.microbatches}",
        )

    def __str__(self) -> str:
        """Returns the candidate in one phrase."""
        data, model = self.layout.mesh
        sharded = ", FSDP" if self.layout.fsdp else ""
        mesh = f"data {data} x model {model}{sharded}"
        return f"{mesh}, remat {self.layout.remat}, MICROBATCHES={self.microbatches}"


def default_meshes(devices: int) -> Sequence[tuple[int, int]]:
    """Returns (data, model) of the meshes to try on so many devices of a slice.

    Args:
        devices: Of one slice.
    """
    return [(devices // size, size) for size in MODEL_SIZES if devices % size == 0]


def default_microbatches(batches: Sequence[int], devices: int) -> Sequence[int]:
    """Returns the numbers of parts, powers of two, that the batches can be computed in.

    Args:
        batches: Rows of each stream's batch.
        devices: Least size of the axes that the rows lie along.
    """
    rows = math.gcd(*batches) // devices
    powers = [2**n for n in range(MAX_MICROBATCHES.bit_length())]
    return [number for number in powers if rows and rows % number == 0]


def layouts(
    *, meshes: Sequence[tuple[int, int]], fsdp: Sequence[bool], remats: Sequence[str]
) -> Sequence[Layout]:
    """Returns all combinations, the cheapest kind first.

    Args:
        meshes: (data, model); those with the smallest model axis come first.
        fsdp: Of False and True.
        remats: In the order that they are tried in.
    """
    return [
        Layout(mesh=mesh, fsdp=sharded, remat=remat)
        for mesh in sorted(meshes, key=lambda mesh: mesh[1])
        for sharded in sorted(fsdp)
        for remat in remats
    ]


def search(
    candidates: Mapping[Layout, Sequence[int]], attempt: Callable[[Candidate], Outcome]
) -> Mapping[Candidate, Outcome]:
    """Tries candidates and returns those tried, the cheapest that fits first.

    Args:
        candidates: Layout -> its numbers of microbatches; the cheapest kind of layout first.
        attempt: Compiles one.
    """
    tried: dict[Candidate, Outcome] = {}

    def remembered(candidate: Candidate) -> Outcome:
        tried[candidate] = attempt(candidate)
        return tried[candidate]

    fewest = math.inf
    for layout, numbers in candidates.items():
        options = [
            Candidate(layout=layout, microbatches=number)
            for number in sorted(numbers)
            if number < fewest
        ]
        if found := first_that_fits(options, remembered):
            fewest = found.microbatches
    return dict(sorted(tried.items(), key=lambda pair: _rank(pair[1])))


def _rank(outcome: Outcome) -> tuple[bool, tuple[float, int]]:
    return (False, outcome.cost) if outcome.fits else (True, (math.inf, 0))
