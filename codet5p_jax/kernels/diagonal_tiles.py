"""Tiles of a bias that depends on key position - query position alone, as T5's does.

Cut into square blocks, such a bias has one tile per diagonal of blocks, and a tile holds no more
than 2 * block - 1 values: it is made in the kernel from one row of them. Tiles whose values have
all saturated, being further than the largest distance, are the same, so that their number does not
grow with the length. Tiles lie as the kernel's scores do: [keys, queries].
"""

import dataclasses
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

SUBLANES = 8


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagonalTiles:
    """Which tiles there are.

    Attributes:
        block: Keys and queries of a tile.
        first: Key block - query block of the first tile, at most 0.
        count: Tiles; each serves the next diagonal of blocks, first and last also all beyond.
    """

    block: int
    first: int
    count: int

    def index(self, query_block: jax.Array | int, key_block: jax.Array | int) -> jax.Array:
        """Returns the tile of a pair of blocks."""
        return jnp.clip(key_block - query_block - self.first, 0, self.count - 1)

    def offsets(self) -> Int[np.ndarray, "count values"]:
        """Returns key position - query position of each value of each tile's row.

        Value x of a row serves queries that are x positions further into their block than the
        key is into its own; x lies in [0, block), and modulo 2 * block in [-block, 0).
        """
        x = np.arange(2 * self.block)
        x = np.where(x < self.block, x, x - 2 * self.block)
        diagonals = self.first + np.arange(self.count)
        return (diagonals[:, None] * self.block - x).astype(np.int32)


def diagonal_tiles(length: int, block: int, *, max_distance: int, causal: bool) -> DiagonalTiles:
    """Returns the tiles of self-attention.

    Args:
        length: Of queries and keys, a multiple of `block`.
        block: Keys and queries of a tile.
        max_distance: From this distance on all values of one direction are equal.
        causal: Whether tiles whose keys all lie behind the queries are left out.
    """
    saturated = -(-(max_distance + block - 1) // block)  # the tile nearest to the diagonal that is
    far = min(saturated, length // block - 1)
    return DiagonalTiles(block=block, first=-far, count=far + 1 if causal else 2 * far + 1)


def spread(values: Float[Array, "1 values"], tile: Any) -> None:
    """Writes the tile whose entry (k, q) is ``values[:, (q - k) % values.size]``.

    Args:
        values: As `DiagonalTiles.offsets` orders them.
        tile: Reference to [keys, queries].
    """
    keys, queries = tile.shape
    rows = _shifted_by_row(jnp.broadcast_to(values, (SUBLANES, values.shape[1])), backwards=False)

    def write(i, rows):
        tile[_group(i)] = rows[:, :queries]
        return pltpu.roll(rows, SUBLANES, 1)

    jax.lax.fori_loop(0, keys // SUBLANES, write, rows)


def gather(tile: Any) -> Float[Array, "1 values"]:
    """Returns the sum of the entries that share a value: the gradient that `spread` hands back.

    Args:
        tile: Reference to [keys, queries].
    """
    keys, queries = tile.shape
    groups = keys // SUBLANES

    def add(i, rows):
        group = tile[_group(groups - 1 - i)]
        group = jnp.concatenate([group, jnp.zeros_like(group)], axis=1)
        return pltpu.roll(rows, 2 * queries - SUBLANES, 1) + group

    rows = jnp.zeros((SUBLANES, 2 * queries), jnp.float32)
    rows = jax.lax.fori_loop(0, groups, add, rows)
    return jnp.sum(_shifted_by_row(rows, backwards=True), axis=0, keepdims=True)


def _group(i: jax.Array) -> Any:
    return pl.ds(pl.multiple_of(i * SUBLANES, SUBLANES), SUBLANES)


def _shifted_by_row(x: Float[Array, "rows n"], *, backwards: bool) -> Float[Array, "rows n"]:
    """Returns `x` with row i turned by i, bit by bit: TPUs rotate rows by a stride from v5 on only.

    And those do it forwards alone.
    """
    n = x.shape[1]
    row = jax.lax.broadcasted_iota(jnp.int32, x.shape, 0)
    for bit in range((x.shape[0] - 1).bit_length()):
        turned = pltpu.roll(x, n - (1 << bit) if backwards else 1 << bit, 1)
        x = jnp.where((row >> bit) & 1 == 1, turned, x)
    return x
