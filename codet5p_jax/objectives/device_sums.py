"""Sums over devices, inside jax.shard_map, that travel in a dtype of their own."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

SplitAxes = Sequence[tuple[str, ...]]  # for each axis of an array, the mesh axes it lies along


def sum_over_devices(
    x: jax.Array, mesh_axes: Sequence[str], dtype: DTypeLike | None = None
) -> jax.Array:
    """Returns the sum of all devices' `x`.

    Args:
        x: Any.
        mesh_axes: Axes of the mesh to add up along; none returns `x`.
        dtype: What it travels in where that is narrower; None: in its own.
    """
    if not mesh_axes:
        return x
    return _travelling(x, dtype, functools.partial(jax.lax.psum, axis_name=tuple(mesh_axes)))


def scatter_sum(x: jax.Array, split: SplitAxes, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns this device's part of the sum of all devices' `x`.

    Args:
        x: Whole on each device.
        split: How the sum is to be cut.
        dtype: What it travels in where that is narrower; None: in its own.
    """

    def scatter(x: jax.Array) -> jax.Array:
        for index, axes in enumerate(split):
            if axes:
                x = jax.lax.psum_scatter(x, axes, scatter_dimension=index, tiled=True)
        return x

    return _travelling(x, dtype, scatter)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def gather(part: jax.Array, split: SplitAxes, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns the whole of what each device has a part of; its gradient is `scatter_sum`'s.

    Args:
        part: This device's.
        split: How the whole is cut.
        dtype: What it travels in, there and back, where that is narrower; None: in its own.
    """
    x = part.astype(_narrower(part, dtype))
    for index, axes in enumerate(split):
        if axes:
            x = jax.lax.all_gather(x, axes, axis=index, tiled=True)
    # As it was, so that gradients of many microbatches are added up in its dtype.
    return x.astype(part.dtype)


def _gather_forward(part, split, dtype):
    return gather(part, split, dtype), None


def _gather_backward(split, dtype, _, d_whole):
    return (scatter_sum(d_whole, split, dtype),)


gather.defvjp(_gather_forward, _gather_backward)


def _travelling(
    x: jax.Array, dtype: DTypeLike | None, add_up: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Returns ``add_up(x)``, computed in `dtype`."""
    dtype = _narrower(x, dtype)
    if x.dtype == dtype:
        return add_up(x)
    # XLA on CPU ends the process at a sum in bfloat16 where another axis of the mesh is its own.
    return jax.lax.platform_dependent(
        x, cpu=add_up, default=lambda x: add_up(x.astype(dtype)).astype(x.dtype)
    )


def _narrower(x: jax.Array, dtype: DTypeLike | None) -> DTypeLike:
    """Returns `dtype`, or that of `x` where `dtype` is None or takes as many bytes or more."""
    if dtype is None or jnp.dtype(dtype).itemsize >= x.dtype.itemsize:
        return x.dtype
    return dtype
