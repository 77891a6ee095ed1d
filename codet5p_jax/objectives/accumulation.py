"""Losses and encodings computed a chunk at a time, with the memory of one chunk, exactly.

A loss that is a sum over chunks needs of each chunk, for the backward pass, only gradients that
do not depend on how the sum is used later: its cotangent is one scalar factor. So
`sum_over_chunks` differentiates each chunk as soon as its value is known, frees its intermediates,
and computes nothing twice. Chunks may be rows of a batch (microbatches) or positions (logits).

Encodings that a loss of the whole batch reads, as contrastive learning does, have no such shortcut:
`map_over_chunks` computes them again in the backward pass (GradCache, arXiv:2101.06983).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.custom_derivatives import SymbolicZero
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from codet5p_jax.objectives.row_shards import on_each_shard
from codet5p_jax.objectives.split_parameters import is_split
from codet5p_jax.typing import PyTree

ChunkLoss = Callable[[PyTree, PyTree, PyTree], tuple[Float[Array, ""], PyTree]]
ChunkFunction = Callable[[PyTree, PyTree], PyTree]


def sum_over_chunks(
    losses: Sequence[ChunkLoss],
    params: PyTree,
    rows: PyTree,
    data: PyTree,
    *,
    choice: Int[Array, "chunks"] | None = None,
    wire_dtype: DTypeLike | None = None,
) -> tuple[Float[Array, ""], PyTree]:
    """Returns the sum over chunks of (total, aux); only `total` has a gradient.

    Exact: value and gradient are those of the plain sum, up to the order of additions.

    Args:
        losses: Functions (params, rows of a chunk, data of a chunk) -> (scalar float32, pytree of
            sums). They give the same result where they may be chosen, at different cost, and close
            over nothing that is differentiated.
        params: What all chunks share; its gradients are added up in its dtype.
        rows: Arrays [chunks, batch, ...] with a gradient of their own for each chunk.
        data: Arrays [chunks, ...] without a gradient: token ids, weights, keys.
        choice: Index into `losses` for each chunk; None means the first for all.
        wire_dtype: What gradients of `params` travel in where devices compute rows of their own;
            None means its dtype.
    """
    structure: Any = None

    def flat(loss: ChunkLoss) -> ChunkLoss:
        def of_chunk(*inputs: PyTree) -> tuple[Array, list[Array]]:
            nonlocal structure
            total, aux = loss(*inputs)
            leaves, structure = jax.tree.flatten(aux)
            return total, leaves

        return of_chunk

    flat_losses = tuple(flat(loss) for loss in losses)
    total, leaves = _sum_over_chunks(flat_losses, wire_dtype, params, rows, data, choice)
    return total, structure.unflatten(leaves)


def microbatches(batch: PyTree, count: int) -> PyTree:
    """Returns arrays [count, batch / count, ...]: microbatch i holds the rows i, i + count, ...

    Taken in strides, so that each microbatch lies on all devices that the batch lies on.

    Raises:
        ValueError: `count` does not divide the batch.
    """

    def split(rows: Array) -> Array:
        if rows.shape[0] % count:
            raise ValueError(
                f"MICROBATCHES is {count}, which does not divide the batch of {rows.shape[0]} "
                "rows; set MICROBATCHES to a divisor of it."
            )
        parts = jnp.moveaxis(rows.reshape(-1, count, *rows.shape[1:]), 1, 0)
        return nn.with_logical_constraint(parts, (None, "batch", *[None] * (parts.ndim - 2)))

    return jax.tree.map(split, batch)


def split_rng(rng: jax.Array, count: int) -> jax.Array:
    """Returns a key for each part of a batch; that of a single one draws what the batch does."""
    return rng[None] if count == 1 else jax.random.split(rng, count)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _sum_over_chunks(losses, wire_dtype, params, rows, data, choice):
    def of_shard(params, chunks):
        branches = [functools.partial(loss, params) for loss in losses]

        def add(total, chunk):
            *inputs, index = chunk
            return jax.tree.map(jnp.add, total, _choose(index, branches, *inputs)), None

        zeros = _zeros(branches[0], *map(_first, chunks[:2]))
        return _loop(add, zeros, chunks)[0], None, None

    return on_each_shard(of_shard, params, (rows, data, choice))[0]


def _forward(losses, wire_dtype, params, rows, data, choice):
    """The sum, and as residuals the gradients of those arguments that somebody asks for."""
    moving_params, moving_rows = _Moving(params), _Moving(rows)
    params, rows, data, choice = (_values(tree) for tree in (params, rows, data, choice))

    def of_shard(params, chunks):
        def with_gradient(loss):
            def of_moving(d_params, d_rows, chunk_rows, chunk_data):
                joined = moving_params.put(d_params, params), moving_rows.put(d_rows, chunk_rows)
                return loss(*joined, chunk_data)

            gradient = jax.value_and_grad(of_moving, argnums=(0, 1), has_aux=True)
            return functools.partial(gradient, moving_params.take(params))

        branches = [with_gradient(loss) for loss in losses]

        def add(carry, chunk):
            *inputs, index = chunk
            value, (d_params, d_rows) = _choose(index, branches, *inputs)
            return jax.tree.map(jnp.add, carry, (value, d_params)), d_rows

        value, (d_params, _) = _zeros(branches[0], *map(_first, chunks[:3]))
        (value, d_params), d_rows = _loop(add, (value, d_params), chunks)
        return value, d_params, d_rows

    chunks = moving_rows.take(rows), rows, data, choice
    value, d_params, d_rows = on_each_shard(
        of_shard,
        params,
        chunks,
        gradients_like=moving_params.take(params),
        wire_dtype=wire_dtype,
    )
    return value, (moving_params.alone(d_params), moving_rows.alone(d_rows))


def _backward(losses, wire_dtype, residuals, cotangents):
    d_total, _ = cotangents
    if isinstance(d_total, SymbolicZero):
        return None, None, None, None
    scaled = jax.tree.map(lambda gradient: (d_total * gradient).astype(gradient.dtype), residuals)
    return *scaled, None, None


_sum_over_chunks.defvjp(_forward, _backward, symbolic_zeros=True)


def map_over_chunks(
    functions: Sequence[ChunkFunction],
    params: PyTree,
    data: PyTree,
    *,
    choice: Int[Array, "chunks"] | None = None,
    wire_dtype: DTypeLike | None = None,
) -> PyTree:
    """Returns function(params, chunk of data) for each chunk, [chunks, ...].

    The backward pass computes each chunk again, so that the intermediates of one chunk exist at
    a time.

    Args:
        functions: They give the same result where they may be chosen, at different cost, and
            close over nothing that is differentiated.
        params: What all chunks share.
        data: Arrays [chunks, ...] without a gradient.
        choice: Index into `functions` for each chunk; None means the first for all.
        wire_dtype: See `sum_over_chunks`.
    """
    return _map_over_chunks(tuple(functions), wire_dtype, params, data, choice)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _map_over_chunks(functions, wire_dtype, params, data, choice):
    def of_shard(params, chunks):
        branches = [functools.partial(function, params) for function in functions]
        mapped = jax.lax.map(lambda chunk: _choose(chunk[1], branches, chunk[0]), chunks)
        return None, None, mapped

    return on_each_shard(of_shard, params, (data, choice))[2]


def _map_forward(functions, wire_dtype, params, data, choice):
    mapped = _map_over_chunks(functions, wire_dtype, params, data, choice)
    return mapped, (params, data, choice)


def _map_backward(functions, wire_dtype, residuals, d_out):
    params, data, choice = residuals

    def of_shard(params, chunks):
        def gradient(function):
            def of_chunk(chunk, d_chunk):
                return jax.vjp(lambda params: function(params, chunk), params)[1](d_chunk)[0]

            return of_chunk

        branches = [gradient(function) for function in functions]

        def add(d_params, chunk):
            chunk_data, index, d_chunk = chunk
            d_chunk = _choose(index, branches, chunk_data, d_chunk)
            return jax.tree.map(jnp.add, d_params, d_chunk), None

        return None, _loop(add, jax.tree.map(jnp.zeros_like, params), chunks)[0], None

    chunks = data, choice, d_out
    _, d_params, _ = on_each_shard(
        of_shard, params, chunks, gradients_like=params, wire_dtype=wire_dtype
    )
    return d_params, None, None


_map_over_chunks.defvjp(_map_forward, _map_backward)


class _Moving:
    """Which leaves of a tree somebody differentiates by."""

    def __init__(self, primals: PyTree):
        """Reads it from what custom_vjp passes where symbolic zeros are on."""
        nodes, structure = jax.tree.flatten(primals, is_leaf=is_split)
        self._structure: Any = structure
        self._moves = [jax.tree.leaves(node)[0].perturbed for node in nodes]

    def take(self, tree: PyTree) -> list[Any]:
        """Returns those leaves of `tree`."""
        return [x for x, moves in zip(_nodes(tree), self._moves, strict=True) if moves]

    def put(self, moving: list[Any], tree: PyTree) -> PyTree:
        """Returns `tree` with those leaves replaced."""
        new = iter(moving)
        leaves = zip(_nodes(tree), self._moves, strict=True)
        return self._structure.unflatten([next(new) if moves else x for x, moves in leaves])

    def alone(self, moving: list[Any]) -> PyTree:
        """Returns a tree of those leaves, with None in place of the others."""
        new = iter(moving)
        return self._structure.unflatten([next(new) if moves else None for moves in self._moves])


def _nodes(tree: PyTree) -> list[Any]:
    """Returns the parameters of a tree, those in parts as they are."""
    return jax.tree.leaves(tree, is_leaf=is_split)


def _values(primals: PyTree) -> PyTree:
    return jax.tree.map(lambda primal: primal.value, primals)


def _choose(
    index: jax.Array | None, branches: Sequence[Callable[..., Any]], *inputs: PyTree
) -> Any:
    return branches[0](*inputs) if index is None else jax.lax.switch(index, branches, *inputs)


def _loop(add: Callable[..., Any], carry: PyTree, chunks: PyTree) -> tuple[PyTree, PyTree]:
    """Returns what jax.lax.scan does; a single chunk needs no loop."""
    if len(jax.tree.leaves(chunks)[0]) > 1:
        return jax.lax.scan(add, carry, chunks)
    carry, result = add(carry, _first(chunks))
    return carry, jax.tree.map(lambda x: x[None], result)


def _first(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[0], tree)


def _zeros(fn: Callable[..., Any], *inputs: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(fn, *inputs))
