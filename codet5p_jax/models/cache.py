"""What attention keeps between steps of decoding."""

import jax
from flax import struct


class KeysAndValues(struct.PyTreeNode):
    """What queries attend to, projected and split into heads.

    Attributes:
        keys: [batch, keys, heads, head_dim].
        values: [batch, keys, heads, head_dim].
    """

    keys: jax.Array
    values: jax.Array


class LayerCache(struct.PyTreeNode):
    """Keys and values that decoder layers keep between steps.

    Attributes:
        past: Of the decoder's own positions, [batch, max_length, heads, head_dim].
        encoded: Of the encoder output, [batch, inputs, heads, head_dim], or None.
    """

    past: KeysAndValues
    encoded: KeysAndValues | None = None


def write_at(past: KeysAndValues, new: KeysAndValues, position: jax.Array) -> KeysAndValues:
    """Returns `past` with `new` written from `position` on."""

    def write(old: jax.Array, update: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(old, update.astype(old.dtype), position, axis=1)

    return jax.tree.map(write, past, new)
