"""Forward and backward pass of attention, each one Pallas kernel for TPUs.

The grid is (blocks of heads, rows of the batch, blocks of queries), the last running fastest. One
program computes what a block of queries reads of all keys of its row, which lie in VMEM as a whole,
block by block with a running softmax (FlashAttention, arXiv:2205.14135). So queries, keys, values
and outputs cross HBM once per pass, and no array of the size of the scores exists. It takes its
queries a chunk at a time, whose scores nearly fit the registers: less code, and less to compile.

Arrays come as projections make them, [batch, length, heads * head_dim]: a program takes so many
heads that they fill lanes, and nothing is transposed in HBM. Scores lie as [keys, queries], so that
what belongs to a query is a row: its maximum, its sum, its log-sum.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from codet5p_jax.kernels.attention_blocks import CHUNK, LANES, Blocks, Index
from codet5p_jax.kernels.attention_mask import MASKED, masked_unless
from codet5p_jax.kernels.diagonal_tiles import gather, spread

Refs = Any  # a namespace of references to what a pass reads, writes and keeps


def forward_pass(blocks: Blocks, refs: Refs) -> None:
    """Writes `out` and `log_sum`, the logarithm of the sum of exp(scores) of each query."""
    program = _Program(blocks, refs)
    if blocks.tiles:
        pl.when(program.is_first())(program.make_tiles)
    program.for_chunks(functools.partial(_gather, program))


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
    program.for_chunks(functools.partial(_add_gradients, program))

    @pl.when(program.query_block == blocks.num_query_blocks - 1)
    def _write_keys_and_values():
        refs.d_key[0] = refs.sum_key[...].astype(refs.d_key.dtype)
        refs.d_value[0] = refs.sum_value[...].astype(refs.d_value.dtype)

    if blocks.tiles:
        pl.when(program.is_last())(program.write_tile_values)


def _gather(program: "_Program", chunk: "_Chunk") -> None:
    """Writes what a chunk of queries gathers."""
    blocks, refs = program.blocks, program.refs

    def look_at(key_block, before):
        mask = chunk.mask(key_block)
        return tuple(
            _running_softmax(
                state,
                chunk.scores(key_block, head, mask),
                program.value(key_block, head),
                program.kept(key_block, head),
            )
            for head, state in enumerate(before)
        )

    row = (1, CHUNK)
    start = (
        jnp.full(row, -jnp.inf, jnp.float32),
        jnp.zeros(row, jnp.float32),
        jnp.zeros((blocks.head_dim, CHUNK), jnp.float32),
    )
    end = chunk.for_key_blocks(look_at, (start,) * blocks.heads)
    out = [gathered / total for _, total, gathered in end]
    refs.out[0, chunk.rows] = jnp.concatenate(out, axis=0).T.astype(refs.out.dtype)
    for head, (largest, total, _) in enumerate(end):
        refs.log_sum[0, 0, head : head + 1, chunk.rows] = largest + jnp.log(total)


def _add_gradients(program: "_Program", chunk: "_Chunk") -> None:
    """Writes the gradients of a chunk of queries, and adds theirs to those of keys and values."""
    blocks, refs = program.blocks, program.refs
    inner = chunk.inner_products()

    def look_at(key_block, d_queries):
        mask = chunk.mask(key_block)
        made = [
            _gradients(program, chunk, key_block, head, mask, inner[head])
            for head in range(blocks.heads)
        ]
        rows = program.rows(key_block)
        refs.sum_key[rows] += jnp.concatenate([d_key for _, d_key, _ in made], axis=1)
        refs.sum_value[rows] += jnp.concatenate([d_value for _, _, d_value in made], axis=1)
        return tuple(
            before + d_query for before, (d_query, _, _) in zip(d_queries, made, strict=True)
        )

    zero = jnp.zeros((CHUNK, blocks.head_dim), jnp.float32)
    d_queries = chunk.for_key_blocks(look_at, (zero,) * blocks.heads)
    refs.d_query[0, chunk.rows] = jnp.concatenate(d_queries, axis=1).astype(refs.d_query.dtype)


def _gradients(
    program: "_Program",
    chunk: "_Chunk",
    key_block: Index,
    head: int,
    mask: jax.Array | None,
    inner: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns what a block of keys adds to the gradients of query, key and value of a head."""
    refs, scale = program.refs, program.blocks.scale
    query, d_out = chunk.of_queries(refs.query, head), chunk.of_queries(refs.d_out, head)
    key, value = program.key(key_block, head), program.value(key_block, head)
    log_sum = refs.log_sum[0, 0, head : head + 1, chunk.rows]
    # A query that sees no key has lost its scores to MASKED, and weights of 1: it teaches nothing.
    log_sum = jnp.where(log_sum < MASKED / 2, jnp.inf, log_sum)
    weights = jnp.exp(chunk.scores(key_block, head, mask) - log_sum)
    kept = program.kept(key_block, head)
    d_scores = weights * (_times(_dot(value, d_out, 1, 1), kept) - inner)
    if program.blocks.tiles:
        refs.sum_tiles[program.tile(key_block), head, :, chunk.rows] += d_scores
    d_scores = (d_scores if scale is None else d_scores * scale).astype(query.dtype)
    d_value = _dot(_times(weights, kept).astype(value.dtype), d_out, 1, 0)
    return _dot(d_scores, key, 0, 0), _dot(d_scores, query, 1, 0), d_value


def _running_softmax(
    state: tuple[jax.Array, jax.Array, jax.Array],
    scores: jax.Array,
    value: jax.Array,
    kept: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns (largest score, sum of weights, weighted values) with a further block of keys."""
    before, total, gathered = state
    largest = jnp.maximum(before, jnp.max(scores, axis=0, keepdims=True))
    weights, shrunk = jnp.exp(scores - largest), jnp.exp(before - largest)
    total = total * shrunk + jnp.sum(weights, axis=0, keepdims=True)
    weights = _times(weights, kept).astype(value.dtype)
    return largest, total, gathered * shrunk + _dot(value, weights, 0, 0)


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
            spread(refs.tile_values[0, tile, head : head + 1, :], refs.tiles.at[tile, head])

        self._for_tiles(make)

    def write_tile_values(self) -> None:
        """Writes the gradients of the values of the tiles."""
        refs = self.refs

        def write(tile, head):
            refs.d_tile_values[0, tile, head : head + 1, :] = gather(refs.sum_tiles.at[tile, head])

        self._for_tiles(write)

    def for_chunks(self, do: Callable[["_Chunk"], None]) -> None:
        """Does something with each chunk of its queries."""
        count = self.blocks.query_block // CHUNK
        if count == 1:
            do(_Chunk(self, 0))
        else:
            jax.lax.fori_loop(0, count, lambda i, _: do(_Chunk(self, i)), None)

    def rows(self, key_block: Index) -> Any:
        """Returns where a block of keys lies in its row."""
        return pl.ds(key_block * self.blocks.key_block, self.blocks.key_block)

    def tile(self, key_block: Index) -> jax.Array:
        """Returns the tile between its queries and a block of keys."""
        assert self.blocks.tiles
        return self.blocks.tiles.index(self.query_block, key_block)

    def key(self, key_block: Index, head: int) -> Float[Array, "keys head_dim"]:
        """Returns a block of keys of a head."""
        return self.refs.key[0, self.rows(key_block), self.blocks.lanes(head)]

    def value(self, key_block: Index, head: int) -> Float[Array, "keys head_dim"]:
        """Returns their values."""
        return self.refs.value[0, self.rows(key_block), self.blocks.lanes(head)]

    def kept(self, key_block: Index, head: int) -> Float[Array, "keys 1"] | None:
        """Returns what weights of a block of keys are multiplied with; None: nothing."""
        scale = self.blocks.keep_scale
        if scale is None:
            return None
        kept = _column(self.refs.kept[0, 0, head : head + 1, self.rows(key_block)])
        return jnp.where(kept != 0, jnp.float32(scale), jnp.float32(0))

    def _for_tiles(self, do: Callable[[Index, int], None]) -> None:
        def of_tile(tile, _):
            for head in range(self.blocks.heads):
                do(tile, head)

        assert self.blocks.tiles
        jax.lax.fori_loop(0, self.blocks.tiles.count, of_tile, None)


class _Chunk:
    """Queries of a program that are looked at in one go."""

    def __init__(self, program: _Program, index: Index):
        self._program = program
        self._refs, self._blocks = program.refs, program.blocks
        first = index * CHUNK  # among the queries of the program
        self._first = first if isinstance(first, int) else pl.multiple_of(first, LANES)

    @property
    def rows(self) -> Any:
        """Returns where it lies among the queries of the program."""
        return pl.ds(self._first, CHUNK)

    def for_key_blocks(self, look_at: Callable[[Index, Any], Any], carry: Any) -> Any:
        """Returns the carry behind all blocks of keys that its queries see."""
        if self._blocks.num_key_blocks == 1:
            return look_at(0, carry)
        seen = self._blocks.seen_key_blocks(self._program.query_block)
        return jax.lax.fori_loop(0, seen, look_at, carry)

    def of_queries(self, ref: Any, head: int) -> Float[Array, "chunk head_dim"]:
        """Returns a head's part of what there is of each query."""
        return ref[0, self.rows, self._blocks.lanes(head)]

    def scores(
        self, key_block: Index, head: int, mask: jax.Array | None
    ) -> Float[Array, "keys chunk"]:
        """Returns the scores of a block of keys, scaled, biased and masked."""
        program = self._program
        scores = _dot(program.key(key_block, head), self.of_queries(self._refs.query, head), 1, 1)
        if self._blocks.scale is not None:
            scores = scores * self._blocks.scale
        if self._blocks.tiles:
            scores = scores + self._refs.tiles[program.tile(key_block), head, :, self.rows]
        return scores if mask is None else scores + mask

    def mask(self, key_block: Index) -> Float[Array, "keys #chunk"] | None:
        """Returns what is added to scores to hide keys; None where all are seen."""
        blocks, refs, mask = self._blocks, self._refs, None
        if blocks.by_key or blocks.by_segment:
            keys = _column(refs.key_segments[0, :, self._program.rows(key_block)])
            by_segment = blocks.by_segment
            seen = keys == refs.query_segments[0, :, self.rows] if by_segment else keys != 0
            mask = masked_unless(seen)
        if blocks.causal:
            shape = (blocks.key_block, CHUNK)
            key = jax.lax.broadcasted_iota(jnp.int32, shape, 0) + key_block * blocks.key_block
            query = jax.lax.broadcasted_iota(jnp.int32, shape, 1) + self._first
            past = masked_unless(key <= query + self._program.query_block * blocks.query_block)
            mask = past if mask is None else mask + past
        return mask

    def inner_products(self) -> list[Float[Array, "1 chunk"]]:
        """Returns sum(out * d_out) of each query, for each head."""
        refs, blocks = self._refs, self._blocks
        out, d_out = (ref[0, self.rows].astype(jnp.float32) for ref in (refs.out, refs.d_out))
        products = (out * d_out).T  # so that the sum over a head is a row
        heads = range(blocks.heads)
        return [jnp.sum(products[blocks.lanes(i)], axis=0, keepdims=True) for i in heads]


def _clear(*refs: Any) -> None:
    for ref in refs:
        ref[...] = jnp.zeros_like(ref)


def _times(x: jax.Array, factor: jax.Array | None) -> jax.Array:
    return x if factor is None else x * factor


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
