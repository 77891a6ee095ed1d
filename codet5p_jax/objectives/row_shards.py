"""Each device computes on its own rows of a batch, and what it sums travels once.

Left to itself the compiler adds a gradient up over the devices wherever a product makes a part of
it: once per microbatch, at each use of a shared embedding, and for position biases at the size of
the scores. Here every device first sums all that its rows give.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from codet5p_jax.objectives.device_sums import scatter_sum, sum_over_devices
from codet5p_jax.objectives.mesh_axes import mesh_axes_of, row_axes
from codet5p_jax.objectives.split_parameters import is_split
from codet5p_jax.typing import PyTree

# (what all rows share, chunks [chunks, batch, ...]) -> (sums, gradients, chunks of results)
ShardFunction = Callable[[PyTree, PyTree], tuple[PyTree, PyTree, PyTree]]


def on_each_shard(
    function: ShardFunction,
    shared: PyTree,
    chunks: PyTree,
    *,
    gradients_like: PyTree = None,
    wire_dtype: DTypeLike | None = None,
) -> tuple[PyTree, PyTree, PyTree]:
    """Returns function(shared, chunks), its sums and gradients added up over the devices.

    Args:
        function: Of one device's rows; constraints on activations hold as before along all other
            axes of the mesh.
        shared: Equal on all devices, or a SplitParameter, which the function sees whole, or, where
            it is gathered when read, as it is.
        chunks: Arrays [chunks, batch, ...]; those without a batch axis, such as keys, are the same
            on all devices.
        gradients_like: Those parts of `shared` that the gradients are of, in the gradients' order.
        wire_dtype: What gradients travel in; None leaves them as they are.
    """
    axes = row_axes()
    if not axes:
        return function(shared, chunks)

    def local(shared: PyTree, chunks: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        whole = jax.tree.map(_gathered, shared, is_leaf=is_split)
        with nn.logical_axis_rules(_without(nn.get_logical_axis_rules(), axes)):
            sums, gradients, results = function(whole, chunks)
        add_up = functools.partial(_added_up, axes=axes, wire_dtype=wire_dtype)
        arrived = jax.tree.map(add_up, gradients_like, gradients, is_leaf=is_split)
        return jax.lax.psum(sums, axes), arrived, results

    def rows(leaf: jax.Array) -> PartitionSpec:
        return PartitionSpec(None, axes) if leaf.ndim > 1 else PartitionSpec()

    mapped = jax.shard_map(
        local,
        in_specs=(_parts(shared), jax.tree.map(rows, chunks)),
        out_specs=(PartitionSpec(), _parts(gradients_like), PartitionSpec(None, axes)),
        axis_names=set(axes),
        # Unchecked, since the check would add gradients up inside the loop over chunks.
        check_vma=False,
    )
    return mapped(shared, chunks)


def _parts(tree: PyTree) -> PyTree:
    """Returns the mesh axes of each parameter, as far as they are those of rows."""
    return jax.tree.map(
        lambda leaf: leaf.spec if is_split(leaf) else PartitionSpec(), tree, is_leaf=is_split
    )


def _gathered(parameter: Any) -> Any:
    if not is_split(parameter) or parameter.when_read:
        return parameter
    return parameter.unbox()


def _added_up(
    parameter: Any, gradient: Any, *, axes: Sequence[str], wire_dtype: DTypeLike | None
) -> Any:
    """Returns the sum of all devices' gradients, split as the parameter is.

    Args:
        parameter: Whose gradient it is.
        gradient: Of the whole parameter; or, of one that is gathered when read, of a device's part:
            the gradient of gathering has added it up along the axes of the parts.
        axes: Mesh axes of the rows.
        wire_dtype: What it travels in.
    """
    if not is_split(parameter):
        return sum_over_devices(gradient, axes, wire_dtype)
    if is_split(gradient):
        part = gradient.value
    else:
        part = scatter_sum(gradient, parameter.axes, wire_dtype)
    others = [axis for axis in axes if axis not in parameter.mesh_axes]
    return parameter.replace_boxed(sum_over_devices(part, others, wire_dtype))


def _without(rules: Sequence[tuple[str, Any]], axes: Sequence[str]) -> Sequence[tuple[str, Any]]:
    """Returns the rules with `axes` of the mesh left out: nothing there is to be laid out."""
    return [
        (name, tuple(axis for axis in mesh_axes_of(target) if axis not in axes) or None)
        for name, target in rules
    ]
