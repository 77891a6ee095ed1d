"""Encoder and decoder of T5 v1.0: pre-norm layers, scanned, with one bias table per stack."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from codet5p_jax.kernels.attention_mask import AnyArray, AttentionMask
from codet5p_jax.kernels.dropping import drop
from codet5p_jax.kernels.position_bias import PositionBias
from codet5p_jax.kernels.xla_attention import SpreadBias
from codet5p_jax.models.attention import Attention, bias_for
from codet5p_jax.models.cache import KeysAndValues, LayerCache, write_at
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.dropout import keep_masks
from codet5p_jax.models.embedding import TokenEmbedder
from codet5p_jax.models.layers import RESIDUAL_AXES, FeedForward, Linear, RMSNorm
from codet5p_jax.models.positions import RelativePositionBias
from codet5p_jax.models.scanned import scanned_layers


class LayerContext(struct.PyTreeNode):
    """What all layers of a stack share in one pass.

    Attributes:
        mask: Mask of self-attention.
        bias: Relative position bias of self-attention.
        encoded: Encoder output, for the decoder; None where the cache holds its projections.
        cross_mask: Mask of cross-attention, for the decoder.
        position: Where this pass writes into the cache.
    """

    mask: AttentionMask
    bias: PositionBias | SpreadBias
    encoded: jax.Array | None = None
    cross_mask: AttentionMask | None = None
    position: jax.Array | None = None


class LayerMasks(struct.PyTreeNode):
    """What stays in dropout: of one layer, or, with an axis before the others, of all layers.

    Attributes:
        keys: Keys of self-attention, [batch, heads, length].
        attended: What self-attention adds to the residual stream, [batch, embed].
        hidden: Units of the feed-forward block, [batch, mlp].
        mlp: What it adds, [batch, embed].
        encoded_keys: Keys of cross-attention, [batch, heads, inputs], for the decoder.
        encoded: What cross-attention adds, [batch, embed], for the decoder.
    """

    keys: Any = None
    attended: Any = None
    hidden: Any = None
    mlp: Any = None
    encoded_keys: Any = None
    encoded: Any = None


KEEP_ALL = LayerMasks()


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each as ``x + dropout(block(norm(x)))``."""

    config: T5Config

    def setup(self):
        """Creates the parts."""
        self.attention_norm = _norm(self.config)
        self.attention = _attention(self.config)
        self.mlp_norm = _norm(self.config)
        self.mlp = _feed_forward(self.config)

    def __call__(
        self, x: Float[Array, "batch length embed"], keep: LayerMasks, context: LayerContext
    ) -> tuple[Float[Array, "batch length embed"], None]:
        """Returns the next residual stream, and nothing to stack."""
        h = self.attention_norm(x)
        attended = self.attention.keys_and_values(h)
        h = self.attention(h, attended, mask=context.mask, bias=context.bias, keep=keep.keys)
        x = self._add(x, h, keep.attended)
        return self._add(x, self.mlp(self.mlp_norm(x), keep.hidden), keep.mlp), None

    def _add(self, x: jax.Array, h: jax.Array, keep: jax.Array | None) -> jax.Array:
        x = x + _drop_along_length(h, keep, self.config)
        return nn.with_logical_constraint(x, RESIDUAL_AXES)


class DecoderLayer(EncoderLayer):
    """Self-attention, cross-attention and feed-forward, each as ``x + dropout(block(norm(x)))``."""

    def setup(self):
        """Creates the parts."""
        super().setup()
        self.cross_attention_norm = _norm(self.config)
        self.cross_attention = _attention(self.config)

    def __call__(
        self,
        x: Float[Array, "batch targets embed"],
        cache: LayerCache | None,
        keep: LayerMasks,
        context: LayerContext,
    ) -> tuple[Float[Array, "batch targets embed"], LayerCache | None]:
        """Returns the next residual stream, and the cache with these positions in it."""
        h = self.attention_norm(x)
        attended = self.attention.keys_and_values(h)
        if cache is not None:
            attended = write_at(cache.past, attended, context.position)
            cache = cache.replace(past=attended)
        h = self.attention(h, attended, mask=context.mask, bias=context.bias, keep=keep.keys)
        x = self._add(x, h, keep.attended)

        attended = None if cache is None else cache.encoded
        if attended is None:
            attended = self.cross_attention.keys_and_values(context.encoded)
        h = self.cross_attention_norm(x)
        mask = context.cross_mask
        h = self.cross_attention(h, attended, mask=mask, bias=None, keep=keep.encoded_keys)
        x = self._add(x, h, keep.encoded)
        return self._add(x, self.mlp(self.mlp_norm(x), keep.hidden), keep.mlp), cache

    def encoded_keys_and_values(
        self, carry: None, encoded: Float[Array, "batch inputs embed"]
    ) -> tuple[None, KeysAndValues]:
        """Returns this layer's projections of the encoder output, which no step changes."""
        return carry, self.cross_attention.keys_and_values(encoded)


class Encoder(nn.Module):
    """Tokens -> encoder output.

    Attributes:
        config: Shape of the model.
        embedder: The token embedding, where others have it too; None: its own.
    """

    config: T5Config
    embedder: TokenEmbedder | None = None

    def setup(self):
        """Creates the parts."""
        if self.embedder is None:
            self.token_embedder = token_embedder(self.config)
        self.relative_position_bias = _position_bias(self.config, bidirectional=True)
        self.layers = scanned_layers(
            EncoderLayer,
            self.config,
            length=self.config.num_encoder_layers,
            unroll=1 if self.is_initializing() else self.config.scan_unroll,
            remat_policy=self.config.remat_policy,
            methods={"__call__": {"in_axes": (0, nn.broadcast)}},
        )
        self.final_norm = _norm(self.config)

    def __call__(
        self,
        tokens: Int[Array, "batch inputs"],
        segments: Int[AnyArray, "batch inputs"] | None = None,
        *,
        mask: AttentionMask,
        train: bool,
    ) -> Float[Array, "batch inputs embed"]:
        """Returns the hidden states after the final norm; relative positions need no segments."""
        x = _embedded(self, tokens)
        length = x.shape[1]
        bias = bias_for(self.config.attention, self.relative_position_bias(), length, length)
        before, layers, behind = _stack_masks(self, x, train=train)
        x = _drop_along_length(x, before, self.config)
        x, _ = self.layers(x, layers, LayerContext(mask=mask, bias=bias))
        return _drop_along_length(self.final_norm(x), behind, self.config)


class Decoder(nn.Module):
    """Tokens and encoder output -> decoder hidden states, and logits.

    Attributes:
        config: Shape of the model.
        embedder: The token embedding, where others have it too; None: its own.
        head: The layer that makes logits, where it belongs to others; None: its own, if untied.
    """

    config: T5Config
    embedder: TokenEmbedder | None = None
    head: Linear | None = None

    def setup(self):
        """Creates the parts."""
        if self.embedder is None:
            self.token_embedder = token_embedder(self.config)
            if not self.config.tie_embeddings:
                self.lm_head = language_model_head(self.config)
        self.relative_position_bias = _position_bias(self.config, bidirectional=False)
        self.layers = scanned_layers(
            DecoderLayer,
            self.config,
            length=self.config.num_decoder_layers,
            unroll=1 if self.is_initializing() else self.config.scan_unroll,
            remat_policy=self.config.remat_policy,
            methods={
                "__call__": {"in_axes": (0, 0, nn.broadcast)},
                "encoded_keys_and_values": {"in_axes": nn.broadcast},
            },
        )
        self.final_norm = _norm(self.config)

    def __call__(
        self,
        tokens: Int[Array, "batch targets"],
        segments: Int[AnyArray, "batch targets"] | None = None,
        *,
        encoded: Float[Array, "batch inputs embed"],
        encoder_segments: Int[AnyArray, "batch inputs"] | None = None,
        mask: AttentionMask,
        cross_mask: AttentionMask,
        train: bool,
        cache: LayerCache | None = None,
    ) -> tuple[Float[Array, "batch targets embed"], LayerCache | None]:
        """Returns the hidden states after the final norm, and the cache moved on.

        With a cache, `tokens` are the next positions, and ``mask.query_offset`` the first of them.
        """
        x = _embedded(self, tokens)
        keys = x.shape[1] if cache is None else cache.past.keys.shape[2]
        bias = self.relative_position_bias(mask.query_offset)
        context = LayerContext(
            mask=mask,
            bias=bias_for(self.config.attention, bias, x.shape[1], keys),
            encoded=encoded,
            cross_mask=cross_mask,
            position=None if cache is None else mask.query_offset,
        )
        before, layers, behind = _stack_masks(self, x, encoded, train=train)
        x = _drop_along_length(x, before, self.config)
        x, cache = self.layers(x, cache, layers, context)
        return _drop_along_length(self.final_norm(x), behind, self.config), cache

    def logits(
        self, hidden: Float[Array, "batch targets embed"]
    ) -> Float[Array, "batch targets vocab"]:
        """Returns float32 scores of all rows of the vocabulary, padding rows too."""
        if self.config.tie_embeddings:
            embedder = self.token_embedder if self.embedder is None else self.embedder
            return embedder.attend(hidden * self.config.embed_dim**-0.5)
        head = self.lm_head if self.head is None else self.head
        return head(hidden).astype(jnp.float32)

    def empty_cache(
        self, batch: int, max_length: int, encoded: Float[Array, "batch inputs embed"] | None
    ) -> LayerCache:
        """Returns room for `max_length` positions; given `encoded`, with its projections."""
        config = self.config
        across = None if encoded is None else self.layers.encoded_keys_and_values(None, encoded)[1]
        shape = [config.num_decoder_layers, batch, max_length, config.num_heads, config.head_dim]
        zeros = jnp.zeros(shape, config.dtype)
        return LayerCache(past=KeysAndValues(zeros, zeros), encoded=across)


def token_embedder(config: T5Config) -> TokenEmbedder:
    """Returns the token embedding of a model."""
    return TokenEmbedder(config.padded_vocab_size, config.embed_dim, config.embedding_stddev)


def language_model_head(config: T5Config) -> Linear:
    """Returns what makes logits where the embedding does not."""
    return Linear(
        config.padded_vocab_size,
        ("embed", "vocab"),
        stddev=config.embed_dim**-0.5,
        dtype=config.dtype,
    )


def _embedded(stack: Encoder | Decoder, tokens: jax.Array) -> jax.Array:
    embedder = stack.token_embedder if stack.embedder is None else stack.embedder
    return embedder(tokens).astype(stack.config.dtype)


def _norm(config: T5Config) -> RMSNorm:
    return RMSNorm(epsilon=config.layer_norm_epsilon, dtype=config.dtype)


def _attention(config: T5Config) -> Attention:
    return Attention(
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        embed_dim=config.embed_dim,
        dropout_rate=config.dropout_rate,
        attention=config.attention,
        dtype=config.dtype,
    )


def _feed_forward(config: T5Config) -> FeedForward:
    return FeedForward(
        mlp_dim=config.mlp_dim,
        activation=config.activation,
        gated=config.gated_mlp,
        dropout_rate=config.dropout_rate,
        dtype=config.dtype,
    )


def _stack_masks(
    stack: nn.Module, x: jax.Array, encoded: jax.Array | None = None, *, train: bool
) -> tuple[jax.Array | None, LayerMasks, jax.Array | None]:
    """Returns what stays of a stack's input, in each layer, and of its output.

    Args:
        stack: An encoder or a decoder; has the rng "dropout" where training.
        x: Its input.
        encoded: Encoder output, for a decoder.
        train: Whether dropout is on.
    """
    config = stack.config
    if not train or not config.dropout_rate:
        return None, KEEP_ALL, None
    layers = config.num_encoder_layers if encoded is None else config.num_decoder_layers
    of_layer = {
        "keys": (config.num_heads, x.shape[1]),
        "attended": (config.embed_dim,),
        "hidden": (config.mlp_dim,),
        "mlp": (config.embed_dim,),
    }
    if encoded is not None:
        of_layer["encoded_keys"] = (config.num_heads, encoded.shape[1])
        of_layer["encoded"] = (config.embed_dim,)
    ends = {"before": (config.embed_dim,), "behind": (config.embed_dim,)}
    shapes = {name: (layers, *shape) for name, shape in of_layer.items()} | ends
    masks = keep_masks(stack.make_rng("dropout"), config.dropout_rate, x.shape[0], shapes)
    stacked = {name: jnp.swapaxes(masks[name], 0, 1) for name in of_layer}
    return masks["before"], LayerMasks(**stacked), masks["behind"]


def _drop_along_length(
    x: Float[Array, "batch length embed"], keep: Bool[Array, "batch embed"] | None, config: T5Config
) -> Float[Array, "batch length embed"]:
    return drop(x, None if keep is None else keep[:, None], config.dropout_rate)


def _position_bias(config: T5Config, *, bidirectional: bool) -> RelativePositionBias:
    return RelativePositionBias(
        num_heads=config.num_heads,
        bidirectional=bidirectional,
        num_buckets=config.relative_position_buckets,
        max_distance=config.relative_position_max_distance,
    )
