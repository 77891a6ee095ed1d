"""Each device computes on its own rows of a batch, and what it sums travels once.

Left to itself the compiler adds a gradient up over the devices wherever a product makes a part of
it: once per microbatch, at each use of a shared embedding, and for position biases at the size of
the scores. Here every device first sums all that its rows give.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from codet5p_jax.typing import PyTree

# (what all rows share, chunks [chunks, batch, ...]) -> (sums, gradients, chunks of results)
ShardFunction = Callable[[PyTree, PyTree], tuple[PyTree, PyTree, PyTree]]


def mesh_axes_of(target: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Returns the mesh axes that a rule, or one entry of a PartitionSpec, names."""
    return (target,) if isinstance(target, str) else tuple(target or ())


def num_row_shards() -> int:
    """Returns how many parts of a batch lie on devices of their own; 1 outside a mesh."""
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape[axis] for axis in _batch_axes())


def rows_stay_apart() -> bool:
    """Whether rows lie on several devices, each of which holds all parameters that they need.

    Not so where parameters are split over the same devices (FSDP): there each layer's gradient
    goes to its owners as soon as it is known, and never exists as a whole.
    """
    axes = set(_batch_axes())
    split = (
        axis for name, target in _rules() if name not in _ROWS for axis in mesh_axes_of(target)
    )
    return num_row_shards() > 1 and axes.isdisjoint(split)


def on_each_shard(
    function: ShardFunction, shared: PyTree, chunks: PyTree, *, wire_dtype: DTypeLike | None = None
) -> tuple[PyTree, PyTree, PyTree]:
    """Returns function(shared, chunks), its sums and gradients added up over the devices.

    Args:
        function: Of one device's rows; constraints on activations hold as before along all other
            axes of the mesh.
        shared: Equal on all devices.
        chunks: Arrays [chunks, batch, ...]; those without a batch axis, such as keys, are the same
            on all devices.
        wire_dtype: What gradients travel in; None leaves them as they are.
    """
    if not rows_stay_apart():
        return function(shared, chunks)
    axes = _batch_axes()

    def local(shared: PyTree, chunks: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        with nn.logical_axis_rules(_without(_rules(), axes)):
            sums, gradients, results = function(shared, chunks)
        travelling = jax.tree.map(lambda x: x.astype(wire_dtype or x.dtype), gradients)
        arrived = jax.lax.psum(travelling, axes)
        gradients = jax.tree.map(lambda x, like: x.astype(like.dtype), arrived, gradients)
        return jax.lax.psum(sums, axes), gradients, results

    def spec(leaf: jax.Array) -> PartitionSpec:
        return PartitionSpec(None, axes) if leaf.ndim > 1 else PartitionSpec()

    specs = PartitionSpec(), jax.tree.map(spec, chunks)
    out_specs = PartitionSpec(), PartitionSpec(), PartitionSpec(None, axes)
    # Unchecked, since the check would add gradients up inside the loop over chunks.
    mapped = jax.shard_map(
        local, in_specs=specs, out_specs=out_specs, axis_names=set(axes), check_vma=False
    )
    return mapped(shared, chunks)


_ROWS = ("batch", "queue")  # logical axes of rows


def _batch_axes() -> tuple[str, ...]:
    """Returns the mesh axes along which rows lie on devices of their own."""
    shape = jax.sharding.get_abstract_mesh().shape
    spec = nn.logical_to_mesh_axes(("batch",))
    return tuple(axis for axis in mesh_axes_of(spec[0] if spec else None) if shape.get(axis, 1) > 1)


def _rules() -> Sequence[tuple[str, Any]]:
    return nn.get_logical_axis_rules()


def _without(rules: Sequence[tuple[str, Any]], axes: Sequence[str]) -> Sequence[tuple[str, Any]]:
    """Returns the rules with `axes` of the mesh left out: nothing there is to be laid out."""
    return [
        (name, tuple(axis for axis in mesh_axes_of(target) if axis not in axes) or None)
        for name, target in rules
    ]
