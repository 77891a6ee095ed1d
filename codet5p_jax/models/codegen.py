"""CodeGen (arXiv:2203.13474): parallel layers with one norm, rotary positions, a biased head.

A layer is ``x + attention(norm(x)) + mlp(norm(x))``, one norm for both; in CodeT5+'s last decoder
layer plus ``cross_attention(norm(x), encoded)``, which has no norm of its own and no gate.
"""

import dataclasses
from typing import ClassVar, final

import jax
from flax import linen as nn

from codet5p_jax.models.decoder_only import Layer
from codet5p_jax.models.decoder_only_config import INITIAL_STDDEV, DecoderOnlyConfig
from codet5p_jax.models.layers import FeedForward, LayerNorm, gelu_new


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeGenConfig(DecoderOnlyConfig):
    """Shape of a CodeGen; see `DecoderOnlyConfig`."""

    family: ClassVar[str] = "codegen"
    mlp_matrices: ClassVar[int] = 2

    @property
    def head_bias(self) -> bool:
        """The logits have a bias."""
        return True

    def layer(self) -> type[nn.Module]:
        """Returns the class of a layer."""
        return CodeGenLayer

    def norm(self) -> nn.Module:
        """Returns a LayerNorm."""
        return LayerNorm(epsilon=self.layer_norm_epsilon, dtype=self.dtype)

    def norm_parameters(self) -> int:
        """Returns the parameters of one norm: scale and bias."""
        return 2 * self.embed_dim

    def layer_parameters(self) -> int:
        """Returns the parameters of one layer, cross-attention not counted."""
        mlp = 2 * self.embed_dim * self.mlp_dim + self.mlp_dim + self.embed_dim
        return self.attention_parameters + mlp + self.norm_parameters()


class CodeGenLayer(Layer):
    """``x + attention(norm(x)) + mlp(norm(x))``."""

    def setup(self):
        """Creates the parts."""
        super().setup()
        self.norm = self.config.norm()
        self.mlp = FeedForward(
            mlp_dim=self.config.mlp_dim,
            activation=gelu_new,
            use_bias=True,
            stddev=INITIAL_STDDEV,
            dtype=self.config.dtype,
        )

    def attention_input(self, x: jax.Array) -> jax.Array:
        """Returns the normed residual stream."""
        return self.norm(x)

    def after_attention(
        self, x: jax.Array, h: jax.Array, gathered: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the next residual stream, and what attention read, for cross-attention."""
        return x + gathered + self.mlp(h), h
