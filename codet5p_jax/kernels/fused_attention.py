"""Attention as one kernel for TPUs, with T5's position bias and its gradient.

`fused_attention` is what `xla_attention` computes; the passes are in attention_passes.py.
"""

import dataclasses
import functools
import types
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from codet5p_jax.kernels.attention_mask import AttentionMask
from codet5p_jax.kernels.attention_passes import LANES, Blocks, backward_pass, forward_pass
from codet5p_jax.kernels.diagonal_tiles import diagonal_tiles
from codet5p_jax.kernels.per_device import per_device
from codet5p_jax.kernels.platform import platform
from codet5p_jax.kernels.position_bias import PositionBias
from codet5p_jax.kernels.xla_attention import xla_attention

LONGEST_BLOCK = 512
DTYPES = (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32))
VMEM_BYTES = 96 * 2**20  # of 128 MiB of a v5e or v6e; a v4 has 16
_AXES = ("batch", "length", "heads", "kv")


class UnservedAttentionError(ValueError):
    """The kernel does not compute such attention."""


def fused_attention(
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys heads head_dim"],
    value: Float[Array, "batch keys heads head_dim"],
    *,
    mask: AttentionMask,
    bias: PositionBias | None = None,
    scale: float | None = None,
    fallback: bool = False,
) -> Float[Array, "batch queries heads head_dim"]:
    """Returns ``softmax(scale * query key^T + bias + mask) value``, computed in one kernel.

    Scores and softmax are float32 whatever the dtype of the inputs. Off TPUs the kernel is
    interpreted: slow, and good for tests alone.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        mask: Who sees whom.
        bias: Bias by relative position, of self-attention.
        scale: What scores are multiplied with; None: nothing.
        fallback: Whether to compute with `xla_attention`, and say so once, what the kernel does
            not serve.

    Raises:
        UnservedAttentionError: The kernel does not serve it, and there is no fallback.
    """
    unserved = _unserved(query, key, value, mask=mask, bias=bias)
    if unserved and not fallback:
        raise UnservedAttentionError(
            f"fused_attention {unserved}. Compute it with "
            "codet5p_jax.kernels.xla_attention.xla_attention, or set fused_attention.fallback."
        )
    if unserved:
        warnings.warn(f"fused_attention {unserved}: xla_attention computes it.", stacklevel=2)
        return xla_attention(query, key, value, mask=mask, bias=bias, scale=scale)
    segments = _segments(mask)

    def local(query, key, value, table, segments):
        return _local_attention(
            query,
            key,
            value,
            AttentionMask(causal=mask.causal, **segments),
            None if bias is None else bias.replace(table=table),
            scale,
        )

    return per_device(
        local,
        (query, key, value, None if bias is None else bias.table, segments),
        (
            *[_AXES] * 3,
            None if bias is None else ("relpos_buckets", "heads"),
            dict.fromkeys(segments, ("batch", "length")),
        ),
        _AXES,
    )


fused_attention.spreads_bias = True  # type: ignore[attr-defined]  # never to a matrix


def _unserved(query, key, value, *, mask, bias) -> str:
    """Returns what of it the kernel does not serve; empty where it serves all."""
    dtypes = {jnp.dtype(x.dtype) for x in (query, key, value)}
    if len(dtypes) > 1 or not dtypes <= set(DTYPES):
        given = ", ".join(sorted(map(str, dtypes)))
        return f"computes in bfloat16 or float32, of query, key and value alike; got {given}"
    queries, keys = query.shape[1], key.shape[1]
    if (mask.causal or bias is not None) and queries != keys:
        what = "a causal mask" if mask.causal else "a position bias"
        return f"takes {what} for as many queries as keys; got {queries} queries, {keys} keys"
    if not isinstance(mask.query_offset, int) or mask.query_offset:
        return "takes queries that begin where the keys do; got a query_offset"
    blocks = _blocks(query.shape, keys, mask=mask, bias=bias)
    needed = vmem_bytes(blocks, query.dtype.itemsize)
    if needed > VMEM_BYTES:
        return (
            f"keeps all keys of a row in VMEM; {keys:,} keys of {blocks.heads} heads of "
            f"{blocks.head_dim} need {needed / 2**20:.0f} MiB of at most {VMEM_BYTES / 2**20:.0f}"
        )
    return ""


def vmem_bytes(blocks: Blocks, itemsize: int) -> int:
    """Returns about what the backward pass, the larger one, needs of VMEM.

    Args:
        blocks: How it is cut.
        itemsize: Bytes of a number of the inputs.
    """
    width = -(-blocks.width // LANES) * LANES
    of_keys = blocks.keys * width * (4 * 2 * itemsize + 2 * 4)  # in and out, twice; two sums
    of_queries = blocks.query_block * width * 4 * 2 * itemsize
    square = blocks.query_block * blocks.key_block * 4
    tiles = 2 * blocks.tiles.count * blocks.heads if blocks.tiles else 0
    return of_keys + of_queries + square * (tiles + 4 * blocks.heads)


def _segments(mask: AttentionMask) -> dict[str, jax.Array]:
    """Returns the segments that decide who sees whom."""
    if mask.key_segments is None:
        return {}
    segments = {"key_segments": jnp.asarray(mask.key_segments, jnp.int32)}
    if mask.query_segments is not None:
        segments["query_segments"] = jnp.asarray(mask.query_segments, jnp.int32)
    return segments


def _blocks(
    query_shape: tuple[int, ...],
    keys: int,
    *,
    mask: AttentionMask,
    bias: PositionBias | None,
    scale: float | None = None,
) -> Blocks:
    by_segment = mask.query_segments is not None and mask.key_segments is not None
    # Keys that fill up the last block lie ahead of every query, or must be hidden.
    fills_up = bool(keys % _block(keys)) and not mask.causal
    return blocks_of(
        num_heads=query_shape[2],
        head_dim=query_shape[3],
        queries=query_shape[1],
        keys=keys,
        max_distance=None if bias is None else bias.max_distance,
        causal=mask.causal,
        scale=scale,
        by_segment=by_segment,
        by_key=not by_segment and (mask.key_segments is not None or fills_up),
    )


def _local_attention(query, key, value, mask, bias, scale):
    """Computes what lies on one device."""
    batch, queries, _, _ = query.shape
    keys = key.shape[1]
    blocks = _blocks(query.shape, keys, mask=mask, bias=bias, scale=scale)
    segments = _segments(mask)
    if blocks.by_key and not segments:
        segments = {"key_segments": jnp.ones([batch, keys], jnp.int32)}
    nobodys = -1 if blocks.by_segment else 0  # segment of keys that fill up
    filled = {"key_segments": (blocks.keys, nobodys), "query_segments": (blocks.queries, 0)}
    out = attend(
        blocks,
        platform() != "tpu",
        _filled_up(query.reshape(batch, queries, -1), blocks.queries),
        _filled_up(key.reshape(batch, keys, -1), blocks.keys),
        _filled_up(value.reshape(batch, keys, -1), blocks.keys),
        None if bias is None else _tile_values(bias, blocks),
        {name: _filled_up(ids, *filled[name])[:, None] for name, ids in segments.items()},
    )
    return out[:, :queries].reshape(query.shape)


def _tile_values(
    bias: PositionBias, blocks: Blocks
) -> Float[Array, "groups tiles heads_of_group values"]:
    assert blocks.tiles  # there is a bias
    values = bias.at(blocks.tiles.offsets())
    return jnp.swapaxes(values.reshape(-1, blocks.heads, *values.shape[1:]), 1, 2)


def _filled_up(x: jax.Array, length: int, value: int = 0) -> jax.Array:
    """Returns `x` [batch, n, ...] made `length` long with `value`."""
    missing = [(0, length - x.shape[1] if axis == 1 else 0) for axis in range(x.ndim)]
    return jnp.pad(x, missing, constant_values=value)


def blocks_of(
    *,
    num_heads: int,
    head_dim: int,
    queries: int,
    keys: int,
    max_distance: int | None = None,
    **fields: Any,
) -> Blocks:
    """Returns how a shape is cut; `queries` and `keys` are rounded up to whole blocks.

    Args:
        num_heads: Heads.
        head_dim: Width of one head.
        queries: Queries of a row.
        keys: Keys of a row.
        max_distance: From which distance on the bias does not change; None: there is none.
        fields: Other fields of `Blocks`.
    """
    fills_lanes = (n for n in range(1, num_heads + 1) if n * head_dim % LANES == 0)
    heads = next((n for n in fills_lanes if num_heads % n == 0), num_heads)
    query_block, key_block = _block(queries), _block(keys)
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
    if max_distance is None:
        return blocks
    tiles = diagonal_tiles(
        blocks.queries, query_block, max_distance=max_distance, causal=blocks.causal
    )
    return dataclasses.replace(blocks, tiles=tiles)


def _block(length: int) -> int:
    """Returns the block of a length: whole lanes, and as little as possible to fill up."""
    count = -(-length // LONGEST_BLOCK)
    return -(-length // (count * LANES)) * LANES


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def attend(
    blocks: Blocks,
    interpret: bool,
    query: Float[Array, "batch queries joined"],
    key: Float[Array, "batch keys joined"],
    value: Float[Array, "batch keys joined"],
    tile_values: Float[Array, "groups tiles heads values"] | None,
    segments: dict[str, Int[Array, "batch 1 length"]],
) -> Float[Array, "batch queries joined"]:
    """Returns what queries gather, heads side by side as in `query`.

    Args:
        blocks: How it is cut; lengths are whole blocks.
        interpret: Whether to compute it without a TPU, slowly.
        query: Queries.
        key: Keys.
        value: Values.
        tile_values: Rows of the tiles of each head, if there is a bias; see DiagonalTiles.offsets.
        segments: `key_segments` and `query_segments`, as far as `blocks` looks at them.
    """
    return _forward(blocks, interpret, query, key, value, tile_values, segments)[0]


def _forward(blocks, interpret, query, key, value, tile_values, segments):
    call = _Call(blocks, batch=query.shape[0])
    inputs = {"query": query, "key": key, "value": value, **segments}
    if blocks.tiles:
        inputs["tile_values"] = tile_values
    log_sum = jax.ShapeDtypeStruct(call.log_sum_shape, jnp.float32)
    out, log_sum = call(
        forward_pass,
        inputs,
        {"out": query, "log_sum": log_sum},
        {"tiles": call.tiles_shape} if blocks.tiles else {},
        products=2,
        interpret=interpret,
    )
    return out, (query, key, value, tile_values, segments, out, log_sum)


def _backward(blocks, interpret, residuals, d_out):
    query, key, value, tile_values, segments, out, log_sum = residuals
    call = _Call(blocks, batch=query.shape[0])
    inputs = {"query": query, "key": key, "value": value, "out": out, "d_out": d_out}
    inputs |= {"log_sum": log_sum, **segments}
    outputs = {"d_query": query, "d_key": key, "d_value": value}
    of_keys: tuple[int, ...] = (blocks.keys, blocks.width)
    scratch = dict.fromkeys(("sum_key", "sum_value"), of_keys)
    if blocks.tiles:
        inputs["tile_values"] = outputs["d_tile_values"] = tile_values
        scratch |= dict.fromkeys(("tiles", "sum_tiles"), call.tiles_shape)
    d_query, d_key, d_value, *d_tiles = call(
        backward_pass, inputs, outputs, scratch, products=5, interpret=interpret
    )
    no_gradient = {name: np.zeros(ids.shape, jax.dtypes.float0) for name, ids in segments.items()}
    return d_query, d_key, d_value, d_tiles[0] if d_tiles else None, no_gradient


attend.defvjp(_forward, _backward)


class _Call:
    """A call of one of the passes: who reads which part of what."""

    def __init__(self, blocks: Blocks, *, batch: int):
        self.blocks = blocks
        self.grid = (blocks.num_heads // blocks.heads, batch, blocks.num_query_blocks)
        groups = self.grid[0]
        self.log_sum_shape = (batch, groups, blocks.heads, blocks.queries)
        of_queries = pl.BlockSpec((1, blocks.query_block, blocks.width), lambda h, b, i: (b, i, h))
        of_keys = pl.BlockSpec((1, blocks.keys, blocks.width), lambda h, b, i: (b, 0, h))
        self._specs = dict.fromkeys(("query", "out", "d_out", "d_query"), of_queries)
        self._specs |= dict.fromkeys(("key", "value", "d_key", "d_value"), of_keys)
        self._specs["log_sum"] = pl.BlockSpec(
            (1, 1, blocks.heads, blocks.query_block), lambda h, b, i: (b, h, 0, i)
        )
        self._specs["key_segments"] = pl.BlockSpec((1, 1, blocks.keys), lambda h, b, i: (b, 0, 0))
        self._specs["query_segments"] = pl.BlockSpec(
            (1, 1, blocks.query_block), lambda h, b, i: (b, 0, i)
        )
        if blocks.tiles:
            tiles = blocks.tiles
            values = pl.BlockSpec(
                (1, tiles.count, blocks.heads, 2 * tiles.block), lambda h, b, i: (h, 0, 0, 0)
            )
            self._specs |= dict.fromkeys(("tile_values", "d_tile_values"), values)
            self.tiles_shape = (tiles.count, blocks.heads, tiles.block, tiles.block)

    def __call__(self, kernel, inputs, outputs, scratch, *, products, interpret):
        """Returns the outputs: arrays of the shapes and dtypes of those given in `outputs`."""
        names = [*inputs, *outputs, *scratch]

        def body(*refs):
            kernel(self.blocks, types.SimpleNamespace(**dict(zip(names, refs, strict=True))))

        shapes = [jax.ShapeDtypeStruct(like.shape, like.dtype) for like in outputs.values()]
        return pl.pallas_call(
            body,
            grid=self.grid,
            in_specs=[self._specs[name] for name in inputs],
            out_specs=[self._specs[name] for name in outputs],
            out_shape=shapes,
            scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch.values()],
            cost_estimate=self._cost([*inputs.values(), *shapes], products=products),
            compiler_params=pltpu.CompilerParams(
                dimension_semantics=("parallel", "arbitrary", "arbitrary"),
                vmem_limit_bytes=VMEM_BYTES,
            ),
            name=kernel.__name__,
            interpret=interpret,
        )(*inputs.values())

    def _cost(self, crossing: Any, *, products: int) -> pl.CostEstimate:
        """Returns what the pass costs: each array crosses HBM once.

        Args:
            crossing: Arrays read and written.
            products: Matrix products between queries and keys.
        """
        blocks = self.blocks
        seen = sum(int(blocks.seen_key_blocks(i)) for i in range(blocks.num_query_blocks))
        pairs = seen * blocks.query_block * blocks.key_block * self.grid[1] * blocks.num_heads
        return pl.CostEstimate(
            flops=2 * products * pairs * blocks.head_dim,
            transcendentals=pairs,
            bytes_accessed=sum(array.size * array.dtype.itemsize for array in crossing),
        )
