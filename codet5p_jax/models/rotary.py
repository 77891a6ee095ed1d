"""Rotary position embeddings (arXiv:2104.09864), and attention with them.

Pairs of a head's first `rotary_dim` numbers turn by an angle that grows with the position. Here the
pair of number i is number i + rotary_dim / 2, as in Llama. CodeGen pairs 2 i with 2 i + 1: its
kernels are reordered where they are read (interop), which leaves every score as it was and spares
a TPU the strided copies.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from codet5p_jax.kernels.attention_mask import AttentionMask
from codet5p_jax.models.attention import AttentionFunction, attend, split_heads
from codet5p_jax.models.cache import KeysAndValues
from codet5p_jax.models.layers import Linear


class Phases(struct.PyTreeNode):
    """Sine and cosine of the angle of each pair at each position, [#batch, length, pairs]."""

    sin: jax.Array
    cos: jax.Array


def rotary_phases(
    positions: Int[Array, "#batch length"], *, rotary_dim: int, base: float
) -> Phases:
    """Returns the phases of pair i at each position p: p * base ** (-2 i / rotary_dim)."""
    exponents = jnp.arange(0, rotary_dim, 2, dtype=jnp.float32) / rotary_dim
    angles = positions.astype(jnp.float32)[:, :, None] * (base**-exponents)[None, None]
    return Phases(sin=jnp.sin(angles), cos=jnp.cos(angles))


def rotate(
    x: Float[Array, "batch length heads head_dim"], phases: Phases
) -> Float[Array, "batch length heads head_dim"]:
    """Returns `x` with its first pairs turned by `phases`, in float32; other numbers pass."""
    pairs = phases.sin.shape[-1]
    first, second, rest = jnp.split(x.astype(jnp.float32), [pairs, 2 * pairs], axis=-1)
    sin, cos = (
        jnp.broadcast_to(each[:, :, None], first.shape) for each in (phases.sin, phases.cos)
    )
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


class RotaryAttention(nn.Module):
    """Multi-head attention with rotary positions, scores divided by sqrt(head_dim), no bias.

    Attributes:
        num_heads: Heads of the queries.
        num_kv_heads: Heads of keys and values, each shared by as many query heads as divide
            evenly (grouped queries, arXiv:2305.13245).
        head_dim: Width of one head.
        embed_dim: Width of the residual stream.
        stddev: Standard deviation of the initial kernels.
        attention: The attention function (models/attention.py).
        dtype: Dtype of the computation; parameters stay in float32.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    embed_dim: int
    stddev: float
    attention: AttentionFunction
    dtype: DTypeLike = jnp.float32

    def setup(self):
        """Creates the parts."""
        into = ("embed", "joined_kv")
        sizes = {"query": self.num_heads, "key": self.num_kv_heads, "value": self.num_kv_heads}
        made = {
            name: Linear(heads * self.head_dim, into, stddev=self.stddev, dtype=self.dtype)
            for name, heads in sizes.items()
        }
        self.query, self.key, self.value = made["query"], made["key"], made["value"]
        self.out = Linear(self.embed_dim, into[::-1], stddev=self.stddev, dtype=self.dtype)

    def keys_and_values(
        self, source: Float[Array, "batch keys embed"], phases: Phases
    ) -> KeysAndValues:
        """Returns the projections of `source` that queries attend to, keys turned."""
        keys = split_heads(self.key(source), self.num_kv_heads)
        values = split_heads(self.value(source), self.num_kv_heads)
        return KeysAndValues(rotate(keys, phases).astype(self.dtype), values)

    def __call__(
        self,
        x: Float[Array, "batch queries embed"],
        attended: KeysAndValues,
        *,
        phases: Phases,
        mask: AttentionMask,
    ) -> Float[Array, "batch queries embed"]:
        """Returns what the queries at `x`, turned by `phases`, gather from `attended`."""
        query = rotate(split_heads(self.query(x), self.num_heads), phases) * self.head_dim**-0.5
        shared = self.num_heads // self.num_kv_heads
        keys, values = (_repeated(each, shared) for each in (attended.keys, attended.values))
        attended = KeysAndValues(keys, values)
        h = attend(self.attention, query.astype(self.dtype), attended, mask=mask, bias=None)
        return self.out(h.reshape(*x.shape[:2], -1))


def _repeated(x: jax.Array, times: int) -> jax.Array:
    return x if times == 1 else jnp.repeat(x, times, axis=2)
