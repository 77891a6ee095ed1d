"""Parameters that lie in parts on the devices that rows lie on (FSDP, ZeRO-3), gathered to be used.

Left to itself the compiler sends such parameters in thousands of small messages, and adds up whole
gradients before it cuts them. Here an array travels at once, in the dtype that the model computes
in, and what comes back is each device's part of the sum of the gradients.
"""

import dataclasses
from typing import Any

import jax
from flax import linen as nn
from flax import struct
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from codet5p_jax.objectives.device_sums import gather
from codet5p_jax.objectives.mesh_axes import mesh_axes_of, row_axes
from codet5p_jax.typing import PyTree


class SplitParameter(struct.PyTreeNode, nn.meta.AxisMetadata):
    """One parameter, or its gradient; flax unboxes it where a module reads it.

    Attributes:
        value: Inside jax.shard_map this device's part, outside the whole array.
        axes: For each axis of the array the mesh axes that it lies along, of those of rows alone.
        dtype: What it travels in; None leaves it as it is.
        when_read: Whether it is gathered where a module reads it, each time, or once before.
    """

    value: Any
    axes: tuple[tuple[str, ...], ...] = struct.field(pytree_node=False)
    dtype: DTypeLike | None = struct.field(pytree_node=False)
    when_read: bool = struct.field(pytree_node=False)

    @property
    def spec(self) -> PartitionSpec:
        """`axes`, as JAX names them."""
        return PartitionSpec(*(axes or None for axes in self.axes))

    @property
    def mesh_axes(self) -> tuple[str, ...]:
        """All mesh axes that it lies along."""
        return tuple(axis for axes in self.axes for axis in axes)

    def unbox(self) -> jax.Array:
        """Returns the whole array, gathered from all devices where each has a part."""
        if not jax.sharding.get_abstract_mesh().manual_axes:
            return self.value
        return gather(self.value, self.axes, self.dtype)

    def replace_boxed(self, val: Any) -> "SplitParameter":
        """Returns the same with another value."""
        return self.replace(value=val)

    def add_axis(self, index: int, params: dict[Any, Any]) -> "SplitParameter":
        """Returns it with an axis more, of layers, that is not split."""
        return self.replace(axes=(*self.axes[:index], (), *self.axes[index:]))

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "SplitParameter":
        """Returns it with an axis less: one layer's."""
        return self.replace(axes=(*self.axes[:index], *self.axes[index + 1 :]))


def is_split(node: Any) -> bool:
    """Whether a node of a tree is a SplitParameter: for jax.tree's `is_leaf`."""
    return isinstance(node, SplitParameter)


@dataclasses.dataclass(frozen=True)
class Gathering:
    """When parameters that are split over the rows' devices are gathered, and in what.

    Attributes:
        dtype: What the model computes in.
        per_layer: Whether the layers of a stack are gathered one at a time, in each pass anew,
            which needs least memory; else all at once, before the first microbatch, which sends
            least.
    """

    dtype: DTypeLike
    per_layer: bool = True

    def box(self, tree: PyTree, logical_axes: PyTree) -> PyTree:
        """Returns `tree` with each array that is split over the rows' devices in a SplitParameter.

        Args:
            tree: Parameters, or what else a step keeps; rows, as a queue's, stay as they are.
            logical_axes: The same structure, with logical axis names at each leaf.
        """
        along = row_axes()

        def boxed(logical: PartitionSpec, leaf: jax.Array) -> Any:
            names = tuple(logical)
            spec = nn.logical_to_mesh_axes(names) or () if names else ()
            axes = tuple(tuple(a for a in mesh_axes_of(e) if a in along) for e in spec)
            if not any(axes) or names[0] == "queue":
                return leaf
            stacked = names[0] == "layers"
            is_matrix = len(names) - stacked > 1  # the scales of norms are small, and float32
            dtype = self.dtype if is_matrix else None
            return SplitParameter(leaf, axes, dtype, self.per_layer and stacked and is_matrix)

        def is_axes(node: Any) -> bool:
            return isinstance(node, PartitionSpec)

        return jax.tree.map(boxed, logical_axes, tree, is_leaf=is_axes)
