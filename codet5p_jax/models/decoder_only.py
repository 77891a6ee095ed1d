"""Decoder-only language models as halves of a CodeT5+ (paper, section 3.3).

A family of them, such as CodeGen, is one `DecoderOnlyConfig` and one `Layer`. As an encoder its
layers see all of a row; as a decoder they see the past, and those at the top also attend to the
encoder's output, each by a term of its own that is added to the layer's output. Where the language
model is frozen, nothing below the first such layer depends on what is trained, so the backward pass
ends there.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from codet5p_jax.models.attention import AttentionFunction, dot_product_attention
from codet5p_jax.models.cache import KeysAndValues, LayerCache, write_at
from codet5p_jax.models.config_fields import (
    check_at_least,
    fields_from_json,
    fields_to_json,
)
from codet5p_jax.models.embedding import TokenEmbedder
from codet5p_jax.models.layers import Linear
from codet5p_jax.models.masks import AnyArray, AttentionMask, Segments
from codet5p_jax.models.positions import positions_in_segments
from codet5p_jax.models.rotary import Phases, RotaryAttention, rotary_phases
from codet5p_jax.models.scanned import scanned_layers
from codet5p_jax.models.vocabulary import padded_rows

RESIDUAL_AXES = ("batch", "length", "activation_embed")
INITIAL_STDDEV = 0.02  # of every kernel and embedding, as GPT-2's


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


_LEAST = {
    "vocab_size": 4,
    "embed_dim": 1,
    "num_layers": 1,
    "num_heads": 1,
    "mlp_dim": 1,
    "scan_unroll": 1,
}


class LayerContext(struct.PyTreeNode):
    """What all layers of a stack share in one pass.

    Attributes:
        mask: Mask of self-attention.
        phases: Rotary phases of the positions of this pass.
        position: Where this pass writes into the cache.
        encoded: Encoder output, for layers with cross-attention; None where the cache holds its
            projections.
        encoded_phases: Rotary phases of the encoder's positions.
        cross_mask: Mask of cross-attention.
    """

    mask: AttentionMask
    phases: Phases
    position: jax.Array | None = None
    encoded: jax.Array | None = None
    encoded_phases: Phases | None = None
    cross_mask: AttentionMask | None = None


class Layer(nn.Module):
    """A layer: self-attention, what a family puts around it, and cross-attention if asked for.

    Attributes:
        config: Shape of the model.
        crosses: Whether it attends to the encoder's output.
    """

    config: Any  # a DecoderOnlyConfig of the family
    crosses: bool = False

    def setup(self):
        """Creates the parts of every family."""
        self.attention = self.config.attention_module()
        if self.crosses:
            self.cross_attention = self.config.attention_module()

    def attention_input(
        self, x: Float[Array, "batch length embed"]
    ) -> Float[Array, "batch length embed"]:
        """Returns what self-attention reads of the residual stream `x`."""
        raise NotImplementedError

    def after_attention(
        self,
        x: Float[Array, "batch length embed"],
        h: Float[Array, "batch length embed"],
        gathered: Float[Array, "batch length embed"],
    ) -> tuple[Float[Array, "batch length embed"], Float[Array, "batch length embed"]]:
        """Returns the next residual stream, and the normed states that cross-attention reads.

        Args:
            x: The residual stream.
            h: What self-attention read.
            gathered: What it gave.
        """
        raise NotImplementedError

    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        cache: LayerCache | None,
        context: LayerContext,
    ) -> tuple[Float[Array, "batch length embed"], LayerCache | None]:
        """Returns the next residual stream, and the cache with these positions in it."""
        h = self.attention_input(x)
        attended = self.attention.keys_and_values(h, context.phases)
        if cache is not None:
            attended = write_at(cache.past, attended, context.position)
            cache = cache.replace(past=attended)
        gathered = self.attention(h, attended, phases=context.phases, mask=context.mask)
        x, h = self.after_attention(x, h, gathered)
        if self.crosses:
            x = x + self._cross_attend(h, cache, context)
        return nn.with_logical_constraint(x, RESIDUAL_AXES), cache

    def _cross_attend(
        self, h: jax.Array, cache: LayerCache | None, context: LayerContext
    ) -> jax.Array:
        attended = None if cache is None else cache.encoded
        if attended is None:
            attended = self.cross_attention.keys_and_values(context.encoded, context.encoded_phases)
        return self.cross_attention(h, attended, phases=context.phases, mask=context.cross_mask)

    def encoded_keys_and_values(
        self, carry: None, encoded: Float[Array, "batch inputs embed"], phases: Phases
    ) -> tuple[None, KeysAndValues]:
        """Returns this layer's projections of the encoder output, which no step changes."""
        return carry, self.cross_attention.keys_and_values(encoded, phases)


class Stack(nn.Module):
    """What encoder and decoder share: embedding, layers, norm.

    Attributes:
        config: Shape of the model.
        cross_attention_layers: Layers at the top that attend to the encoder's output.
    """

    config: DecoderOnlyConfig
    cross_attention_layers: int = 0

    def setup(self):
        """Creates the parts."""
        config = self.config
        self.token_embedder = TokenEmbedder(
            config.padded_vocab_size, config.embed_dim, INITIAL_STDDEV
        )
        lower = config.num_layers - self.cross_attention_layers
        if lower:
            self.layers = self._scanned(lower, config.scan_unroll)
        if self.cross_attention_layers:
            self.cross_layers = self._scanned(
                self.cross_attention_layers, self.cross_attention_layers, crosses=True
            )
        self.final_norm = config.norm()

    def _scanned(self, length: int, unroll: int, *, crosses: bool = False) -> nn.Module:
        return scanned_layers(
            self.config.layer(),
            self.config,
            length=length,
            unroll=1 if self.is_initializing() else unroll,
            remat_policy=self.config.remat_policy,
            methods={
                "__call__": {"in_axes": (0, nn.broadcast)},
                "encoded_keys_and_values": {"in_axes": (nn.broadcast, nn.broadcast)},
            },
            crosses=crosses,
        )

    def phases(self, segments: Segments | None, length: int, offset: jax.Array | int = 0) -> Phases:
        """Returns the rotary phases of a row's positions; see `positions_in_segments`."""
        return rotary_phases(
            positions_in_segments(segments, length, offset),
            rotary_dim=self.config.rotary_dim,
            base=self.config.rotary_base,
        )

    def _embedded(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length embed"]:
        return self.token_embedder(tokens).astype(self.config.dtype)

    def _run(
        self,
        x: Float[Array, "batch length embed"],
        context: LayerContext,
        cache: "StackCache | None" = None,
    ) -> tuple[Float[Array, "batch length embed"], "StackCache | None"]:
        lower = upper = None
        if cache is not None:
            lower, upper = cache.layers, cache.cross_layers
        if self.config.num_layers > self.cross_attention_layers:
            x, lower = self.layers(x, lower, context)
        if self.cross_attention_layers:
            x, upper = self.cross_layers(x, upper, context)
        moved = None if cache is None else StackCache(layers=lower, cross_layers=upper)
        return self.final_norm(x), moved


class StackCache(struct.PyTreeNode):
    """What a decoder keeps between steps; None for layers that there are none of.

    Attributes:
        layers: Of the lower layers, [layers, batch, ...].
        cross_layers: Of those with cross-attention.
    """

    layers: LayerCache | None
    cross_layers: LayerCache | None


@final
class DecoderOnlyEncoder(Stack):
    """Tokens -> encoder output: the language model without its causal mask and its head."""

    def __call__(
        self,
        tokens: Int[Array, "batch inputs"],
        segments: Int[AnyArray, "batch inputs"] | None = None,
        *,
        mask: AttentionMask,
        train: bool,
    ) -> Float[Array, "batch inputs embed"]:
        """Returns the hidden states after the final norm."""
        context = LayerContext(mask=mask, phases=self.phases(segments, tokens.shape[1]))
        return self._run(self._embedded(tokens), context)[0]


@final
class DecoderOnlyDecoder(Stack):
    """Tokens and encoder output -> decoder hidden states, and logits."""

    def setup(self):
        """Creates the parts."""
        super().setup()
        config = self.config
        if not config.tie_embeddings:
            self.lm_head = Linear(
                config.padded_vocab_size,
                ("embed", "vocab"),
                stddev=INITIAL_STDDEV,
                use_bias=config.head_bias,
                dtype=config.dtype,
            )

    def __call__(
        self,
        tokens: Int[Array, "batch targets"],
        segments: Int[AnyArray, "batch targets"] | None = None,
        *,
        mask: AttentionMask,
        encoded: Float[Array, "batch inputs embed"] | None = None,
        encoder_segments: Int[AnyArray, "batch inputs"] | None = None,
        cross_mask: AttentionMask | None = None,
        train: bool = False,
        cache: StackCache | None = None,
    ) -> tuple[Float[Array, "batch targets embed"], StackCache | None]:
        """Returns the hidden states after the final norm, and the cache moved on.

        With a cache, `tokens` are the next positions, and ``mask.query_offset`` the first of them.
        Without layers of cross-attention `encoded` is None: a language model on its own.
        """
        encoded_phases = None
        if encoded is not None:
            encoded_phases = self.phases(encoder_segments, encoded.shape[1])
        context = LayerContext(
            mask=mask,
            phases=self.phases(segments, tokens.shape[1], mask.query_offset),
            position=None if cache is None else mask.query_offset,
            encoded=encoded,
            encoded_phases=encoded_phases,
            cross_mask=cross_mask,
        )
        return self._run(self._embedded(tokens), context, cache)

    def logits(
        self, hidden: Float[Array, "batch targets embed"]
    ) -> Float[Array, "batch targets vocab"]:
        """Returns float32 scores of all rows of the vocabulary, padding rows too."""
        if self.config.tie_embeddings:
            return self.token_embedder.attend(hidden)
        return self.lm_head(hidden).astype(jnp.float32)

    def empty_cache(
        self, batch: int, max_length: int, encoded: Float[Array, "batch inputs embed"] | None
    ) -> StackCache:
        """Returns room for `max_length` positions; given `encoded`, with its projections."""
        config, across = self.config, None
        upper = self.cross_attention_layers
        if encoded is not None and upper:
            phases = self.phases(None, encoded.shape[1])
            across = self.cross_layers.encoded_keys_and_values(None, encoded, phases)[1]

        def room(layers: int) -> KeysAndValues:
            shape = [layers, batch, max_length, config.num_kv_heads, config.head_dim]
            return KeysAndValues(jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype))

        lower = config.num_layers - upper
        return StackCache(
            layers=LayerCache(past=room(lower)) if lower else None,
            cross_layers=LayerCache(past=room(upper), encoded=across) if upper else None,
        )
