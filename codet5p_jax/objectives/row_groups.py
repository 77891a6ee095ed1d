"""Rows of a batch in groups of like length, so that short ones are not computed at full length.

Texts and codes fill less than half of their positions on average. Rows sorted by length and cut
into groups need, group by group, only the positions of their longest row. Shapes are static, so
each group takes the shortest of a few lengths that holds it.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Int

from codet5p_jax.objectives.mesh_axes import num_row_shards
from codet5p_jax.typing import PyTree

SUBLANES = 8  # rows of a TPU tile: lengths are multiples of it


class RowGroups(struct.PyTreeNode):
    """Rows of a batch in groups, each to be computed at a length of its own.

    Rows never leave their block: blocks are the parts of the batch that lie on one device.

    Attributes:
        order: Within each block, rows in the order of the groups; None: group i holds the rows i,
            i + count, ..., wherever they lie.
        choice: Index into `lengths` of each group; None where there is one length.
        lengths: Lengths that a group may be cut to, ascending; the last is that of the batch.
        count: Number of groups.
        blocks: Number of blocks.
    """

    order: Int[Array, "blocks rows"] | None
    choice: Int[Array, "groups"] | None
    lengths: tuple[int, ...] = struct.field(pytree_node=False)
    count: int = struct.field(pytree_node=False)
    blocks: int = struct.field(pytree_node=False)

    def split(self, batch: PyTree) -> PyTree:
        """Returns arrays [batch, ...] as [groups, rows of a group, ...]."""
        return jax.tree.map(self._split, batch)

    def join(self, groups: PyTree) -> PyTree:
        """Returns what `split` made of a batch as that batch."""
        inverse = None if self.order is None else jnp.argsort(self.order, axis=1)
        return jax.tree.map(lambda rows: self._join(rows, inverse), groups)

    def _split(self, rows: Array) -> Array:
        shape = rows.shape[1:]
        if self.order is None:
            # In strides, so that a row's place, and with it its dropout, is the same on any mesh.
            groups = jnp.moveaxis(rows.reshape(-1, self.count, *shape), 1, 0)
        else:
            inner = _reorder(rows.reshape(self.blocks, -1, *shape), self.order)
            groups = jnp.moveaxis(inner.reshape(self.blocks, self.count, -1, *shape), 1, 0)
            groups = groups.reshape(self.count, -1, *shape)
        return nn.with_logical_constraint(groups, (None, "batch", *[None] * (groups.ndim - 2)))

    def _join(self, groups: Array, inverse: Array | None) -> Array:
        shape = groups.shape[2:]
        if inverse is None:
            rows = jnp.moveaxis(groups, 0, 1).reshape(-1, *shape)
        else:
            inner = jnp.moveaxis(groups.reshape(self.count, self.blocks, -1, *shape), 1, 0)
            rows = _reorder(inner.reshape(self.blocks, -1, *shape), inverse).reshape(-1, *shape)
        return nn.with_logical_constraint(rows, ("batch", *[None] * (rows.ndim - 1)))


def group_rows(
    tokens: Int[Array, "batch length"], *, count: int, num_lengths: int, pad_id: int
) -> RowGroups:
    """Returns the rows of `tokens` in `count` groups, the shortest first.

    Args:
        tokens: Token ids, padded at the end of a row.
        count: Number of groups.
        num_lengths: Lengths that a group may be cut to, evenly spaced; 1 keeps rows as they are.
        pad_id: Id of padding.

    Raises:
        ValueError: The groups do not divide the batch, or not its part on one device.
    """
    blocks = num_row_shards()
    batch, length = tokens.shape
    if batch % (blocks * count):
        raise ValueError(
            f"MICROBATCHES is {count}, which does not divide the {batch} rows of a pass on "
            f"{blocks} devices of the data axis; set MICROBATCHES to a divisor of their share."
        )
    lengths = bucket_lengths(length, num_lengths)
    as_they_are = RowGroups(order=None, choice=None, lengths=lengths, count=count, blocks=blocks)
    if len(lengths) == 1:
        return as_they_are
    filled = row_lengths(tokens, pad_id)
    sorted_groups = as_they_are.replace(order=jnp.argsort(filled.reshape(blocks, -1), axis=1))
    longest = jnp.max(sorted_groups.split(filled), axis=1)
    return sorted_groups.replace(choice=jnp.searchsorted(jnp.array(lengths), longest))


def bucket_lengths(length: int, count: int) -> tuple[int, ...]:
    """Returns up to `count` evenly spaced lengths, multiples of 8; the last is `length`."""
    steps = (math.ceil(length * i / count / SUBLANES) * SUBLANES for i in range(1, count))
    return (*sorted({step for step in steps if step < length}), length)


def row_lengths(tokens: Int[Array, "batch length"], pad_id: int) -> Int[Array, "batch"]:
    """Returns the positions of each row up to its last token."""
    positions = jnp.arange(1, tokens.shape[1] + 1)
    return jnp.max(jnp.where(tokens != pad_id, positions[None], 0), axis=1)


def _reorder(blocks: Array, order: Array) -> Array:
    """Returns the rows of each block [blocks, rows, ...] in an order."""
    return jax.vmap(lambda block, index: block[index])(blocks, order)
