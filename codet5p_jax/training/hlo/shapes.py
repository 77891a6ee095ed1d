"""Types of HLO text, such as `(bf16[8,128]{1,0:T(8,128)(2,1)S(1)}, u32[])`: buffers and bytes."""

import dataclasses
import functools
import math
import re

HBM = 0  # memory space of a buffer whose layout names none
_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}
_LEAF = re.compile(r"\b([a-z][a-z0-9]*)\[([^\]]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r"\(([\d,]+)\)")
_MEMORY_SPACE = re.compile(r"S\((\d+)\)")
_ELEMENT_BITS = re.compile(r"E\((\d+)\)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Buffer:
    """One array of a program.

    Attributes:
        dtype: HLO's name, such as "bf16" or "pred".
        dimensions: Its shape.
        element_bits: Size of an element.
        minor_to_major: Order of the dimensions in memory, the fastest first.
        tiles: Of the layout; what a tile does not fill is padding.
        memory_space: 0 is HBM; 1 is a TPU's VMEM, others are its scalar and flag memories, 5 is
            the host's.
    """

    dtype: str
    dimensions: tuple[int, ...]
    element_bits: int
    minor_to_major: tuple[int, ...] = ()
    tiles: tuple[tuple[int, ...], ...] = ()
    memory_space: int = HBM

    @property
    def elements(self) -> int:
        """Returns how many elements it has, padding left out."""
        return math.prod(self.dimensions)

    @property
    def dense_bytes(self) -> int:
        """Returns its size without padding."""
        return math.ceil(self.elements * self.element_bits / 8)

    @property
    def padded_bytes(self) -> int:
        """Returns its size in memory, the padding of its tiles included."""
        sizes = [self.dimensions[axis] for axis in reversed(self.minor_to_major)]
        if len(sizes) != len(self.dimensions):
            sizes = list(self.dimensions)
        for tile in self.tiles if sizes else ():
            sizes = _tiled(sizes, tile[-len(sizes) :])
        return math.ceil(math.prod(sizes) * self.element_bits / 8)

    @property
    def hbm_bytes(self) -> int:
        """Returns its size in memory where that is HBM, else 0."""
        return self.padded_bytes if self.memory_space == HBM else 0


@functools.cache
def buffers_of_type(text: str) -> tuple[Buffer, ...]:
    """Returns the arrays of a type, those of a tuple in order and flat.

    Args:
        text: As HLO prints it.

    Raises:
        ValueError: It names an element type of unknown size.
    """
    return tuple(_buffer(*leaf) for leaf in _LEAF.findall(text))


def elements_of_tuple(text: str) -> list[str]:
    """Returns the types of a tuple's elements, themselves tuples perhaps; the type if it is none.

    Args:
        text: As HLO prints it.
    """
    if not text.startswith("("):
        return [text]
    elements, depth, start = [], 0, 1
    for bracket in re.finditer(r"[()\[\]{},]", text):
        depth += (bracket.group() in "([{") - (bracket.group() in ")]}")
        if depth == 0 or (bracket.group() == "," and depth == 1):
            elements.append(text[start : bracket.start()].strip())
            start = bracket.end()
    return [element for element in elements if element]


def _buffer(dtype: str, dimensions: str, layout: str) -> Buffer:
    order, _, details = layout.partition(":")
    tiles = details.partition("T(")[2]
    space, bits = _MEMORY_SPACE.search(details), _ELEMENT_BITS.search(details)
    return Buffer(
        dtype=dtype,
        dimensions=tuple(int(size.strip("<= ")) for size in dimensions.split(",") if size),
        element_bits=int(bits.group(1)) if bits else _element_bits(dtype),
        minor_to_major=tuple(int(axis) for axis in order.split(",") if axis),
        tiles=_tiles("(" + tiles) if tiles else (),
        memory_space=int(space.group(1)) if space else HBM,
    )


def _tiles(text: str) -> tuple[tuple[int, ...], ...]:
    tiles = []
    while found := _TILE.match(text):
        tiles.append(tuple(int(size) for size in found.group(1).split(",")))
        text = text[found.end() :]
    return tuple(tiles)


def _element_bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    digits = re.match(r"[a-z]+(\d+)", dtype)  # s32, u8, f16, c64, f8e4m3fn
    if digits is None:
        raise ValueError(
            f"{dtype!r} is an element type of unknown size; known are {', '.join(_BITS)} and "
            "those whose name gives their bits, such as f32."
        )
    return int(digits.group(1))


def _tiled(sizes: list[int], tile: tuple[int, ...]) -> list[int]:
    outer, inner = sizes[: len(sizes) - len(tile)], sizes[len(sizes) - len(tile) :]
    counts = [math.ceil(size / side) for size, side in zip(inner, tile, strict=True)]
    return [*outer, *counts, *tile]
