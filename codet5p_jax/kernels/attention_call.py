"""Calls of attention's kernels: who reads which part of what, and what a call costs."""

import functools
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from codet5p_jax.kernels.attention_blocks import Blocks
from codet5p_jax.kernels.attention_passes import backward_pass, forward_pass


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def attend(
    blocks: Blocks,
    interpret: bool,
    query: Float[Array, "batch queries joined"],
    key: Float[Array, "batch keys joined"],
    value: Float[Array, "batch keys joined"],
    tile_values: Float[Array, "groups tiles heads values"] | None,
    marks: dict[str, Int[Array, "batch ..."]],
) -> Float[Array, "batch queries joined"]:
    """Returns what queries gather, heads side by side as in `query`.

    Args:
        blocks: How it is cut; lengths are whole blocks.
        interpret: Whether to compute it without a TPU, slowly.
        query: Queries.
        key: Keys.
        value: Values.
        tile_values: Rows of the tiles of each head, if there is a bias; see DiagonalTiles.offsets.
        marks: What `blocks` looks at of `key_segments` and `query_segments`, [batch, 1, length],
            and `kept`, [batch, groups, heads, keys], 0 for keys that are dropped.
    """
    return _forward(blocks, interpret, query, key, value, tile_values, marks)[0]


def _forward(blocks, interpret, query, key, value, tile_values, marks):
    call = _Call(blocks, query)
    inputs = {"query": query, "key": key, "value": value, **marks}
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
    return out, (query, key, value, tile_values, marks, out, log_sum)


def _backward(blocks, interpret, residuals, d_out):
    query, key, value, tile_values, marks, out, log_sum = residuals
    call = _Call(blocks, query)
    inputs = {"query": query, "key": key, "value": value, "out": out, "d_out": d_out}
    inputs |= {"log_sum": log_sum, **marks}
    outputs = {"d_query": query, "d_key": key, "d_value": value}
    of_keys: tuple[int, ...] = (blocks.keys, blocks.width)
    scratch = dict.fromkeys(("sum_key", "sum_value"), of_keys)
    if blocks.tiles:
        inputs["tile_values"] = outputs["d_tile_values"] = tile_values
        scratch |= dict.fromkeys(("tiles", "sum_tiles"), call.tiles_shape)
    d_query, d_key, d_value, *d_tiles = call(
        backward_pass, inputs, outputs, scratch, products=5, interpret=interpret
    )
    no_gradient = {name: np.zeros(ids.shape, jax.dtypes.float0) for name, ids in marks.items()}
    return d_query, d_key, d_value, d_tiles[0] if d_tiles else None, no_gradient


attend.defvjp(_forward, _backward)


class _Call:
    """A call of one of the passes: who reads which part of what."""

    def __init__(self, blocks: Blocks, query: jax.Array):
        batch = query.shape[0]
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
        self._specs["kept"] = pl.BlockSpec(
            (1, 1, blocks.heads, blocks.keys), lambda h, b, i: (b, h, 0, 0)
        )
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
                vmem_limit_bytes=self.blocks.vmem_limit_bytes,
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
