"""How attention is cut into programs of a grid, blocks, and chunks; and what that needs of VMEM."""

import dataclasses
from typing import Any, final

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from codet5p_jax.kernels.diagonal_tiles import SUBLANES, DiagonalTiles, diagonal_tiles

LANES = 128
LEAST_VMEM_BYTES = 16 * 2**20  # what XLA leaves to its own fusions
SLACK = 1.25  # of what a call takes by the formula; compilers were seen to need up to 1.2 of it
CHUNK = LANES  # queries that a program looks at in one go
LONGEST_BLOCKS = (512, 256, 128)  # the first that fits is taken

Index = jax.Array | int


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
    """How the work is cut.

    Attributes:
        num_heads: Heads.
        head_dim: Width of one head.
        heads: Heads of a program.
        queries: Queries of a row, a multiple of `query_block`.
        keys: Keys of a row, a multiple of `key_block`.
        query_block: Queries of a program.
        key_block: Keys that it looks at in one go.
        causal: Whether queries see only keys at their own position and before.
        scale: What scores are multiplied with; None: nothing.
        tiles: Tiles of the bias; None: there is none.
        by_segment: Whether queries see the keys of their own segment alone.
        by_key: Whether keys of segment 0 are hidden from all.
        keep_scale: What the values of kept keys are multiplied with; None: none is dropped.
        vmem_limit_bytes: VMEM that a call may take.
    """

    num_heads: int
    head_dim: int
    heads: int
    queries: int
    keys: int
    query_block: int
    key_block: int
    causal: bool = False
    scale: float | None = None
    tiles: DiagonalTiles | None = None
    by_segment: bool = False
    by_key: bool = False
    keep_scale: float | None = None
    vmem_limit_bytes: int = LEAST_VMEM_BYTES

    @property
    def width(self) -> int:
        """Lanes of a program."""
        return self.heads * self.head_dim

    @property
    def num_query_blocks(self) -> int:
        """Blocks of queries of a row."""
        return self.queries // self.query_block

    @property
    def num_key_blocks(self) -> int:
        """Blocks of keys of a row."""
        return self.keys // self.key_block

    def vmem_bytes(self, itemsize: int) -> int:
        """Returns about what the backward pass, the larger one, needs of VMEM.

        Args:
            itemsize: Bytes of a number of the inputs.
        """
        width = -(-self.width // LANES) * LANES
        of_keys = width * (4 * 2 * itemsize + 2 * 4)  # in and out, twice; two sums
        marks = 2 * 4 * (-(-self.heads // SUBLANES) + 1) * SUBLANES  # kept, segment; both twice
        of_queries = self.query_block * width * 4 * 2 * itemsize
        of_tiles = 2 * self.tiles.count * self.query_block if self.tiles else 0
        squares = 4 * self.heads * self.key_block * (of_tiles + 4 * CHUNK)
        exactly = 2 if itemsize == 4 else 1  # products of float32 are made of parts
        made = 4 * width * (2 * self.key_block + 4 * CHUNK) * exactly
        return (self.keys * (of_keys + marks) + of_queries + squares + made) * 17 // 16

    def lanes(self, head: int) -> slice:
        """Returns where a program's head lies."""
        return slice(head * self.head_dim, (head + 1) * self.head_dim)

    def seen_key_blocks(self, query_block: Index) -> Index:
        """Returns how many blocks of keys a block of queries looks at: none that lies ahead."""
        if not self.causal:
            return self.num_key_blocks
        behind = pl.cdiv((query_block + 1) * self.query_block, self.key_block)
        least = min if isinstance(behind, int) else jnp.minimum
        return least(behind, self.num_key_blocks)


def blocks_of(
    *,
    queries: int,
    keys: int,
    itemsize: int,
    vmem_bytes: int,
    num_heads: int,
    head_dim: int,
    max_distance: int | None = None,
    **fields: Any,
) -> Blocks:
    """Returns the largest blocks that fit into VMEM, or the smallest there are.

    Args:
        queries: Queries of a row, rounded up to whole blocks.
        keys: Keys of a row, rounded up likewise.
        itemsize: Bytes of a number of the inputs.
        vmem_bytes: VMEM that there is.
        num_heads: Heads.
        head_dim: Width of one head.
        max_distance: From which distance on the bias does not change; None: there is none.
        fields: Other fields of `Blocks`.
    """
    shape = {"queries": queries, "keys": keys, "num_heads": num_heads, "head_dim": head_dim}
    *larger, smallest = (
        _cut(longest, **shape, max_distance=max_distance, **fields) for longest in LONGEST_BLOCKS
    )
    blocks = next((b for b in larger if b.vmem_bytes(itemsize) <= vmem_bytes), smallest)
    limit = max(LEAST_VMEM_BYTES, int(SLACK * blocks.vmem_bytes(itemsize)))
    return dataclasses.replace(blocks, vmem_limit_bytes=min(limit, vmem_bytes))


def _cut(
    longest: int,
    *,
    num_heads: int,
    head_dim: int,
    queries: int,
    keys: int,
    max_distance: int | None,
    **fields: Any,
) -> Blocks:
    """Returns how a shape is cut into blocks of at most `longest` queries, and keys."""
    fills_lanes = (n for n in range(1, num_heads + 1) if n * head_dim % LANES == 0)
    heads = next((n for n in fills_lanes if num_heads % n == 0), num_heads)
    query_block, key_block = _block(queries, longest), _block(keys, longest)
    blocks = Blocks(
        num_heads=num_heads,
        head_dim=head_dim,
        heads=heads,
        queries=-(-queries // query_block) * query_block,
        keys=-(-keys // key_block) * key_block,
        query_block=query_block,
        key_block=key_block,
        **fields,
    )
    if blocks.keys > keys and not blocks.causal and not blocks.by_segment:
        blocks = dataclasses.replace(blocks, by_key=True)  # those that fill up are no query's past
    if max_distance is None:
        return blocks
    tiles = diagonal_tiles(
        blocks.queries, query_block, max_distance=max_distance, causal=blocks.causal
    )
    return dataclasses.replace(blocks, tiles=tiles)


def _block(length: int, longest: int) -> int:
    """Returns the block of a length: whole lanes, and as little as possible to fill up."""
    count = -(-length // longest)
    return -(-length // (count * LANES)) * LANES
