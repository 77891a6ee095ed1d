"""Decoder-only language models as halves of a CodeT5+ (paper, section 3.3).

A family of them, such as CodeGen, is one `DecoderOnlyConfig` and one `Layer`. As an encoder its
layers see all of a row; as a decoder they see the past, and those at the top also attend to the
encoder's output, each by a term of its own that is added to the layer's output. Where the language
model is frozen, nothing below the first such layer depends on what is trained, so the backward pass
ends there.
"""

import abc
from typing import Any, final

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from codet5p_jax.kernels.attention_mask import AnyArray, AttentionMask, Segments
from codet5p_jax.models.cache import KeysAndValues, LayerCache, write_at
from codet5p_jax.models.decoder_only_config import INITIAL_STDDEV, DecoderOnlyConfig
from codet5p_jax.models.embedding import TokenEmbedder
from codet5p_jax.models.layers import RESIDUAL_AXES, Linear
from codet5p_jax.models.positions import positions_in_segments
from codet5p_jax.models.rotary import Phases, rotary_phases
from codet5p_jax.models.scanned import scanned_layers
from codet5p_jax.typing import PyTree


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


class Layer(nn.Module, abc.ABC):
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

    @abc.abstractmethod
    def attention_input(
        self, x: Float[Array, "batch length embed"]
    ) -> Float[Array, "batch length embed"]:
        """Returns what self-attention reads of the residual stream `x`."""

    @abc.abstractmethod
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


def language_model_params(params: PyTree) -> PyTree:
    """Returns the parameters of a decoder as those of one without layers of cross-attention.

    Args:
        params: Of a `DecoderOnlyDecoder`; frozen or trained.
    """
    rest = {name: value for name, value in params.items() if name != "cross_layers"}
    if "cross_layers" not in params:
        return rest
    upper = {k: v for k, v in params["cross_layers"].items() if k != "cross_attention"}
    if "layers" not in rest:
        return {**rest, "layers": upper}
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), rest["layers"], upper)
    return {**rest, "layers": joined}


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
            phases=self.phases(segments, tokens.shape[1], mask.first_query),
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
