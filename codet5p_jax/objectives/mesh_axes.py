"""Which axes of the mesh in force rows lie along, by the logical axis rules in force."""

import math

import jax
from flax import linen as nn


def mesh_axes_of(target: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Returns the mesh axes that a rule, or one entry of a PartitionSpec, names."""
    return (target,) if isinstance(target, str) else tuple(target or ())


def row_axes() -> tuple[str, ...]:
    """Returns the mesh axes along which rows lie on devices of their own; none outside a mesh."""
    shape = jax.sharding.get_abstract_mesh().shape
    spec = nn.logical_to_mesh_axes(("batch",))
    return tuple(axis for axis in mesh_axes_of(spec[0] if spec else None) if shape.get(axis, 1) > 1)


def num_row_shards() -> int:
    """Returns how many parts of a batch lie on devices of their own; 1 outside a mesh."""
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape[axis] for axis in row_axes())
