"""Llama (arXiv:2302.13971): RMS norms, rotary positions, gated feed-forward, grouped queries.

A layer is ``x + attention(norm(x))``, then ``x + mlp(norm(x))``. Cross-attention reads what the
feed-forward block reads, and is added beside it, as CodeT5+ adds it to CodeGen's layers.
"""

import dataclasses
from typing import ClassVar, final

import jax
from flax import linen as nn

from codet5p_jax.models.decoder_only import Layer
from codet5p_jax.models.decoder_only_config import INITIAL_STDDEV, DecoderOnlyConfig
from codet5p_jax.models.layers import FeedForward, RMSNorm


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig(DecoderOnlyConfig):
    """Shape of a Llama; see `DecoderOnlyConfig`."""

    family: ClassVar[str] = "llama"
    mlp_matrices: ClassVar[int] = 3

    def layer(self) -> type[nn.Module]:
        """Returns the class of a layer."""
        return LlamaLayer

    def norm(self) -> nn.Module:
        """Returns an RMSNorm."""
        return RMSNorm(epsilon=self.layer_norm_epsilon, dtype=self.dtype)

    def norm_parameters(self) -> int:
        """Returns the parameters of one norm: its scale."""
        return self.embed_dim

    def layer_parameters(self) -> int:
        """Returns the parameters of one layer, cross-attention not counted."""
        mlp = self.mlp_matrices * self.embed_dim * self.mlp_dim
        return self.attention_parameters + mlp + 2 * self.norm_parameters()


class LlamaLayer(Layer):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    def setup(self):
        """Creates the parts."""
        super().setup()
        self.attention_norm = self.config.norm()
        self.mlp_norm = self.config.norm()
        self.mlp = FeedForward(
            mlp_dim=self.config.mlp_dim,
            activation=nn.silu,
            gated=True,
            stddev=INITIAL_STDDEV,
            dtype=self.config.dtype,
        )

    def attention_input(self, x: jax.Array) -> jax.Array:
        """Returns the normed residual stream."""
        return self.attention_norm(x)

    def after_attention(
        self, x: jax.Array, h: jax.Array, gathered: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the next residual stream, and what the feed-forward block read."""
        x = x + gathered
        h = self.mlp_norm(x)
        return x + self.mlp(h), h
