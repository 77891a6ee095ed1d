"""Kernels on a mesh: each device computes its own rows and heads, since no compiler splits them."""

import math
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
    free = _free_axes()
    if not free:
        return function(*arguments)
    mapped = jax.shard_map(
        function,
        in_specs=jax.tree.map(_spec, axes, is_leaf=_is_axes),
        out_specs=_spec(out_axes),
        axis_names=free,
        check_vma=False,
    )
    return mapped(*arguments)


def knows_devices() -> bool:
    """Returns whether it is known which devices compute: those of a mesh in force, or the only one.

    Without a mesh a compiler may have to split what it is given, which it cannot do with a kernel.
    """
    return not jax.sharding.get_abstract_mesh().empty or jax.device_count() == 1


def divisors(axes: LogicalAxes) -> tuple[int, ...]:
    """Returns into how many parts `per_device` splits each axis.

    Args:
        axes: Logical axes of an array.
    """
    sizes = jax.sharding.get_abstract_mesh().shape

    def parts(entry: Any) -> int:
        names = entry if isinstance(entry, tuple) else (entry,)
        return math.prod(sizes[name] for name in names if name is not None)

    spec = _spec(axes)
    return tuple(parts(entry) for entry in (*spec, *[None] * (len(axes) - len(spec))))


def _free_axes() -> frozenset[str]:
    """Returns the axes of the mesh in force that no shard_map around has split yet."""
    mesh = jax.sharding.get_abstract_mesh()
    return frozenset(mesh.axis_names) - frozenset(mesh.manual_axes)


def _spec(names: LogicalAxes) -> PartitionSpec:
    """Returns along which of the free axes of the mesh the rules split each of these."""
    free = _free_axes()

    def still_to_split(entry: Any) -> Any:
        axes = entry if isinstance(entry, tuple) else (entry,)
        return tuple(axis for axis in axes if axis in free) or None

    return PartitionSpec(*map(still_to_split, nn.logical_to_mesh_axes(tuple(names)) or ()))


def _is_axes(node: Any) -> bool:
    return isinstance(node, tuple) and all(isinstance(name, str | None) for name in node)
