"""Shape of a decoder-only language model as half of a CodeT5+; see decoder_only.py."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from codet5p_jax.models.attention import AttentionFunction, dot_product_attention
from codet5p_jax.models.config_fields import (
    check_at_least,
    fields_from_json,
    fields_to_json,
)
from codet5p_jax.models.rotary import RotaryAttention
from codet5p_jax.models.vocabulary import padded_rows

INITIAL_STDDEV = 0.02  # of every kernel and embedding, as GPT-2's
_LEAST = {
    "vocab_size": 4,
    "embed_dim": 1,
    "num_layers": 1,
    "num_heads": 1,
    "mlp_dim": 1,
    "rotary_base": 1,
    "layer_norm_epsilon": 0,
    "scan_unroll": 1,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderOnlyConfig(abc.ABC):
    """Shape of a decoder-only language model.

    Attributes:
        vocab_size: Rows of the token embedding that have a meaning.
        embed_dim: Width of the residual stream.
        num_layers: Layers.
        num_heads: Attention heads per layer.
        mlp_dim: Width of the feed-forward hidden layer.
        head_dim: Width of one head. None: embed_dim / num_heads.
        num_kv_heads: Heads of keys and values, which divide num_heads. None: num_heads.
        rotary_dim: First numbers of a head that turn with the position. None: all of them.
        rotary_base: Base of the rotary phases.
        layer_norm_epsilon: Added to the variance, or to the mean square, in the norms.
        tie_embeddings: Whether logits use the token embedding.
        scan_unroll: Layers per iteration of the loop over layers; those with cross-attention are
            always unrolled, so that the compiler leaves out what the last of them does not need.
        remat_policy: Which intermediates of a layer the backward pass keeps. None: all of them.
        attention: The attention function (models/attention.py).
        dtype: Dtype of the computation; parameters are float32 unless frozen.
    """

    family: ClassVar[str]
    mlp_matrices: ClassVar[int]  # kernels of a feed-forward block

    vocab_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    head_dim: int = None  # type: ignore[assignment]  # __post_init__ replaces the three None
    num_kv_heads: int = None  # type: ignore[assignment]
    rotary_dim: int = None  # type: ignore[assignment]
    rotary_base: float = 10_000.0
    layer_norm_epsilon: float = 1e-5
    tie_embeddings: bool = False
    scan_unroll: int = 1
    remat_policy: Callable[..., Any] | None = None
    attention: AttentionFunction = dot_product_attention
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        check_at_least(self, _LEAST)
        if self.head_dim is None:
            self._check_heads_divide()
            object.__setattr__(self, "head_dim", self.embed_dim // self.num_heads)
        for name, default in (("num_kv_heads", self.num_heads), ("rotary_dim", self.head_dim)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        self._check_rotary()
        if self.num_kv_heads < 1 or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"{type(self).__name__}.num_kv_heads is {self.num_kv_heads}; it must divide the "
                f"{self.num_heads} heads of the queries."
            )

    def _check_heads_divide(self) -> None:
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"{type(self).__name__}.num_heads is {self.num_heads}, which does not divide "
                f"embed_dim {self.embed_dim}. Change one, or set head_dim."
            )

    def _check_rotary(self) -> None:
        if self.rotary_dim % 2 or not 0 < self.rotary_dim <= self.head_dim:
            raise ValueError(
                f"{type(self).__name__}.rotary_dim is {self.rotary_dim}; it must be even, above 0 "
                f"and at most head_dim, {self.head_dim}."
            )

    @property
    def head_bias(self) -> bool:
        """Whether the logits have a bias."""
        return False

    @abc.abstractmethod
    def layer(self) -> type[nn.Module]:
        """Returns the class of a layer."""

    @abc.abstractmethod
    def norm(self) -> nn.Module:
        """Returns a norm of the residual stream."""

    @abc.abstractmethod
    def norm_parameters(self) -> int:
        """Returns the parameters of one norm."""

    @abc.abstractmethod
    def layer_parameters(self) -> int:
        """Returns the parameters of one layer, cross-attention not counted."""

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding as allocated."""
        return padded_rows(self.vocab_size)

    @property
    def attention_parameters(self) -> int:
        """Numbers in the four kernels of one attention."""
        joined, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return self.embed_dim * 2 * (joined + kv)

    @property
    def encoder_parameters(self) -> int:
        """Parameters as an encoder: without head and cross-attention."""
        layers = self.num_layers * self.layer_parameters()
        return self.vocab_size * self.embed_dim + layers + self.norm_parameters()

    def decoder_parameters(self, cross_attention_layers: int) -> int:
        """Returns the parameters as a decoder, padding rows of the vocabulary not counted."""
        head = 0 if self.tie_embeddings else self.vocab_size * self.embed_dim
        head += self.vocab_size * self.head_bias
        return self.encoder_parameters + head + cross_attention_layers * self.attention_parameters

    def attention_module(self) -> RotaryAttention:
        """Returns an attention of a layer."""
        return RotaryAttention(
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            embed_dim=self.embed_dim,
            stddev=INITIAL_STDDEV,
            attention=self.attention,
            dtype=self.dtype,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the family and the fields as JSON values; functions and dtypes by name.

        Raises:
            ValueError: A function has no name (a lambda, say).
        """
        return {"family": self.family, **fields_to_json(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DecoderOnlyConfig":
        """Returns the config that `to_dict` wrote.

        Raises:
            ValueError: A field is unknown, or a function cannot be found.
        """
        return fields_from_json(cls, {k: v for k, v in values.items() if k != "family"})
