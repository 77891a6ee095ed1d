"""Kernels on a mesh: each device computes its own rows and heads, since no compiler splits them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import PartitionSpec

from codet5p_jax.typing import PyTree

LogicalAxes = Sequence[str | None]


def per_device(
    function: Callable[..., jax.Array], arguments: PyTree, axes: PyTree, out_axes: LogicalAxes
) -> jax.Array:
    """Returns function(*arguments), each device computing the part that lies on it.

    Args:
        function: Of each device's part; independent along the axes that the mesh splits.
        arguments: What it is given.
        axes: Logical axes of each argument; a tuple for each array of it.
        out_axes: Logical axes of what it returns.
    """
    mesh = jax.sharding.get_abstract_mesh()
    free = frozenset(mesh.axis_names) - frozenset(mesh.manual_axes)
    if not free:
        return function(*arguments)

    def spec(names: LogicalAxes) -> PartitionSpec:
        return nn.logical_to_mesh_axes(tuple(names)) or PartitionSpec()

    mapped = jax.shard_map(
        function,
        in_specs=jax.tree.map(spec, axes, is_leaf=_is_axes),
        out_specs=spec(out_axes),
        axis_names=free,
        check_vma=False,
    )
    return mapped(*arguments)


def _is_axes(node: Any) -> bool:
    return isinstance(node, tuple) and all(isinstance(name, str | None) for name in node)
