"""Forward and backward pass of attention, each one Pallas kernel for TPUs.

The grid is (blocks of heads, rows of the batch, blocks of queries), the last running fastest. One
program computes what a block of queries reads of all keys of its row, which lie in VMEM as a whole,
block by block with a running softmax (FlashAttention, arXiv:2205.14135). So queries, keys, values
and outputs cross HBM once per pass, and no array of the size of the scores exists.

Arrays come as projections make them, [batch, length, heads * head_dim]: a program takes so many
heads that they fill lanes, and nothing is transposed in HBM. Scores lie as [keys, queries], so that
what belongs to a query is a row: its maximum, its sum, its log-sum.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, final

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from codet5p_jax.kernels.attention_mask import masked_unless
from codet5p_jax.kernels.diagonal_tiles import DiagonalTiles, gather, spread

LANES = 128

Refs = Any  # a namespace of references to what a pass reads, writes and keeps
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


def forward_pass(blocks: Blocks, refs: Refs) -> None:
    """Writes `out` and `log_sum`, the logarithm of the sum of exp(scores) of each query."""
    program = _Program(blocks, refs)
    if blocks.tiles:
        pl.when(program.is_first())(program.make_tiles)

    def look_at(key_block, before):
        mask = program.mask(key_block)
        return tuple(
            _running_softmax(
                state, program.scores(key_block, head, mask), program.value(key_block, head)
            )
            for head, state in enumerate(before)
        )

    row = (1, blocks.query_block)
    start = (
        jnp.full(row, -jnp.inf, jnp.float32),
        jnp.zeros(row, jnp.float32),
        jnp.zeros((blocks.head_dim, blocks.query_block), jnp.float32),
    )
    end = program.for_key_blocks(look_at, (start,) * blocks.heads)
    out = [gathered / total for _, total, gathered in end]
    refs.out[0] = jnp.concatenate(out, axis=0).T.astype(refs.out.dtype)
    for head, (largest, total, _) in enumerate(end):
        refs.log_sum[0, 0, head : head + 1, :] = largest + jnp.log(total)


def backward_pass(blocks: Blocks, refs: Refs) -> None:
    """Writes the gradients of query, key, value and, at the end, of the values of the tiles.

    The weights are made again from `log_sum`. Gradients of keys and values are added up over the
    queries of a row, those of tiles over rows too; both in float32, in VMEM.
    """
    program = _Program(blocks, refs)
    if blocks.tiles:

        @pl.when(program.is_first())
        def _begin():
            program.make_tiles()
            _clear(refs.sum_tiles)

    pl.when(program.query_block == 0)(lambda: _clear(refs.sum_key, refs.sum_value))
    inner = program.inner_products()

    def look_at(key_block, d_queries):
        mask = program.mask(key_block)
        made = [
            _gradients(program, key_block, head, mask, inner[head]) for head in range(blocks.heads)
        ]
        rows = program.rows(key_block)
        refs.sum_key[rows] += jnp.concatenate([d_key for _, d_key, _ in made], axis=1)
        refs.sum_value[rows] += jnp.concatenate([d_value for _, _, d_value in made], axis=1)
        return tuple(
            before + d_query for before, (d_query, _, _) in zip(d_queries, made, strict=True)
        )

    zero = jnp.zeros((blocks.query_block, blocks.head_dim), jnp.float32)
    d_queries = program.for_key_blocks(look_at, (zero,) * blocks.heads)
    refs.d_query[0] = jnp.concatenate(d_queries, axis=1).astype(refs.d_query.dtype)

    @pl.when(program.query_block == blocks.num_query_blocks - 1)
    def _write_keys_and_values():
        refs.d_key[0] = refs.sum_key[...].astype(refs.d_key.dtype)
        refs.d_value[0] = refs.sum_value[...].astype(refs.d_value.dtype)

    if blocks.tiles:
        pl.when(program.is_last())(program.write_tile_values)


def _gradients(
    program: "_Program", key_block: Index, head: int, mask: jax.Array | None, inner: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns what a block of keys adds to the gradients of query, key and value of a head."""
    refs, scale = program.refs, program.blocks.scale
    query, d_out = program.query(head), program.of_queries(refs.d_out, head)
    key, value = program.key(key_block, head), program.value(key_block, head)
    log_sum = refs.log_sum[0, 0, head : head + 1, :]
    weights = jnp.exp(program.scores(key_block, head, mask) - log_sum)
    d_scores = weights * (_dot(value, d_out, 1, 1) - inner)
    if program.blocks.tiles:
        refs.sum_tiles[program.tile(key_block), head] += d_scores
    d_scores = (d_scores if scale is None else d_scores * scale).astype(query.dtype)
    d_value = _dot(weights.astype(value.dtype), d_out, 1, 0)
    return _dot(d_scores, key, 0, 0), _dot(d_scores, query, 1, 0), d_value


def _running_softmax(
    state: tuple[jax.Array, jax.Array, jax.Array], scores: jax.Array, value: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns (largest score, sum of weights, weighted values) with a further block of keys."""
    before, total, gathered = state
    largest = jnp.maximum(before, jnp.max(scores, axis=0, keepdims=True))
    weights, kept = jnp.exp(scores - largest), jnp.exp(before - largest)
    total = total * kept + jnp.sum(weights, axis=0, keepdims=True)
    return largest, total, gathered * kept + _dot(value, weights.astype(value.dtype), 0, 0)


class _Program:
    """One program of the grid: a block of heads, a row, and a block of its queries."""

    def __init__(self, blocks: Blocks, refs: Refs):
        self.blocks = blocks
        self.refs = refs
        self.row, self.query_block = pl.program_id(1), pl.program_id(2)
        self._last_row = pl.num_programs(1) - 1

    def is_first(self) -> jax.Array:
        """Returns whether nothing of its heads was computed before."""
        return (self.row == 0) & (self.query_block == 0)

    def is_last(self) -> jax.Array:
        """Returns whether nothing of its heads is left."""
        is_last_block = self.query_block == self.blocks.num_query_blocks - 1
        return (self.row == self._last_row) & is_last_block

    def make_tiles(self) -> None:
        """Makes the tiles of its heads, which stay for all their rows and queries."""
        refs = self.refs

        def make(tile, head):
            refs.tiles[tile, head] = spread(refs.tile_values[0, tile, head : head + 1, :])

        self._for_tiles(make)

    def write_tile_values(self) -> None:
        """Writes the gradients of the values of the tiles."""
        refs = self.refs

        def write(tile, head):
            values = gather(refs.sum_tiles[tile, head])
            refs.d_tile_values[0, tile, head : head + 1, :] = values

        self._for_tiles(write)

    def for_key_blocks(self, look_at: Callable[[Index, Any], Any], carry: Any) -> Any:
        """Returns the carry behind all blocks of keys that its queries see."""
        if self.blocks.num_key_blocks == 1:
            return look_at(0, carry)
        seen = self.blocks.seen_key_blocks(self.query_block)
        return jax.lax.fori_loop(0, seen, look_at, carry)

    def rows(self, key_block: Index) -> Any:
        """Returns where a block of keys lies in its row."""
        return pl.ds(key_block * self.blocks.key_block, self.blocks.key_block)

    def tile(self, key_block: Index) -> jax.Array:
        """Returns the tile between its queries and a block of keys."""
        assert self.blocks.tiles
        return self.blocks.tiles.index(self.query_block, key_block)

    def of_queries(self, ref: Any, head: int) -> Float[Array, "queries head_dim"]:
        """Returns a head's part of what there is of each of its queries."""
        return ref[0, :, self.blocks.lanes(head)]

    def query(self, head: int) -> Float[Array, "queries head_dim"]:
        """Returns the queries of a head."""
        return self.of_queries(self.refs.query, head)

    def key(self, key_block: Index, head: int) -> Float[Array, "keys head_dim"]:
        """Returns a block of keys of a head."""
        return self.refs.key[0, self.rows(key_block), self.blocks.lanes(head)]

    def value(self, key_block: Index, head: int) -> Float[Array, "keys head_dim"]:
        """Returns their values."""
        return self.refs.value[0, self.rows(key_block), self.blocks.lanes(head)]

    def scores(
        self, key_block: Index, head: int, mask: jax.Array | None
    ) -> Float[Array, "keys queries"]:
        """Returns the scores of a block of keys, scaled, biased and masked."""
        scores = _dot(self.key(key_block, head), self.query(head), 1, 1)
        if self.blocks.scale is not None:
            scores = scores * self.blocks.scale
        if self.blocks.tiles:
            scores = scores + self.refs.tiles[self.tile(key_block), head]
        return scores if mask is None else scores + mask

    def mask(self, key_block: Index) -> Float[Array, "keys #queries"] | None:
        """Returns what is added to scores to hide keys; None where all are seen."""
        blocks, refs, mask = self.blocks, self.refs, None
        if blocks.by_key or blocks.by_segment:
            keys = _column(refs.key_segments[0, :, self.rows(key_block)])
            seen = keys == refs.query_segments[0] if blocks.by_segment else keys != 0
            mask = masked_unless(seen)
        if blocks.causal:
            shape = (blocks.key_block, blocks.query_block)
            key = jax.lax.broadcasted_iota(jnp.int32, shape, 0) + key_block * blocks.key_block
            query = jax.lax.broadcasted_iota(jnp.int32, shape, 1)
            past = masked_unless(key <= query + self.query_block * blocks.query_block)
            mask = past if mask is None else mask + past
        return mask

    def inner_products(self) -> list[Float[Array, "1 queries"]]:
        """Returns sum(out * d_out) of each query, for each head."""
        out, d_out = (ref[0].astype(jnp.float32) for ref in (self.refs.out, self.refs.d_out))
        products = (out * d_out).T  # so that the sum over a head is a row
        heads = range(self.blocks.heads)
        return [jnp.sum(products[self.blocks.lanes(i)], axis=0, keepdims=True) for i in heads]

    def _for_tiles(self, do: Callable[[Index, int], None]) -> None:
        def of_tile(tile, _):
            for head in range(self.blocks.heads):
                do(tile, head)

        assert self.blocks.tiles
        jax.lax.fori_loop(0, self.blocks.tiles.count, of_tile, None)


def _clear(*refs: Any) -> None:
    for ref in refs:
        ref[...] = jnp.zeros_like(ref)


def _column(row: Array) -> Array:
    """Returns [1, n] as [n, 1]; TPUs transpose whole tiles."""
    return jnp.broadcast_to(row, (LANES, row.shape[1])).T[:, :1]


def _dot(a: jax.Array, b: jax.Array, axis_of_a: int, axis_of_b: int) -> Float[Array, "i j"]:
    """Returns the product over one axis of each, in float32, of float32 exactly."""
    exact = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    contracted = (((axis_of_a,), (axis_of_b,)), ((), ()))
    return jax.lax.dot_general(
        a, b, contracted, precision=exact, preferred_element_type=jnp.float32
    )
