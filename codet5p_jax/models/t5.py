"""Encoder and decoder of T5 v1.0: pre-norm layers, scanned, with one bias table per stack."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from codet5p_jax.models.attention import Attention, KeysAndValues
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.layers import FeedForward, RMSNorm
from codet5p_jax.models.masks import AttentionMask
from codet5p_jax.models.positions import RelativePositionBias

RESIDUAL_AXES = ("batch", "length", "activation_embed")


class LayerContext(struct.PyTreeNode):
    """What all layers of a stack share in one pass.

    Attributes:
        mask: Mask of self-attention.
        bias: Relative position bias of self-attention, [1, heads, queries, keys].
        encoded: Encoder output, for the decoder; None where the cache holds its projections.
        cross_mask: Mask of cross-attention, for the decoder.
        position: Where this pass writes into the cache.
        train: Whether dropout is on.
    """

    mask: AttentionMask
    bias: jax.Array
    encoded: jax.Array | None = None
    cross_mask: AttentionMask | None = None
    position: jax.Array | None = None
    train: bool = struct.field(pytree_node=False, default=False)


class LayerCache(struct.PyTreeNode):
    """Keys and values that decoder layers keep between steps.

    Attributes:
        past: Of the decoder's own positions, [batch, max_length, heads, head_dim].
        encoded: Of the encoder output, [batch, inputs, heads, head_dim], or None.
    """

    past: KeysAndValues
    encoded: KeysAndValues | None = None


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each as ``x + dropout(block(norm(x)))``."""

    config: T5Config

    def setup(self):
        """Creates the parts."""
        self.attention_norm = _norm(self.config)
        self.attention = _attention(self.config)
        self.mlp_norm = _norm(self.config)
        self.mlp = _feed_forward(self.config)
        self.dropout = _dropout(self.config)

    def __call__(
        self, x: Float[Array, "batch length embed"], context: LayerContext
    ) -> tuple[Float[Array, "batch length embed"], None]:
        """Returns the next residual stream, and nothing to stack."""
        h = self.attention_norm(x)
        attended = self.attention.keys_and_values(h)
        h = self.attention(h, attended, mask=context.mask, bias=context.bias, train=context.train)
        x = self._add(x, h, context)
        return self._add(x, self.mlp(self.mlp_norm(x), train=context.train), context), None

    def _add(self, x: jax.Array, h: jax.Array, context: LayerContext) -> jax.Array:
        x = x + self.dropout(h, deterministic=not context.train)
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
        context: LayerContext,
    ) -> tuple[Float[Array, "batch targets embed"], LayerCache | None]:
        """Returns the next residual stream, and the cache with these positions in it."""
        train = context.train
        h = self.attention_norm(x)
        attended = self.attention.keys_and_values(h)
        if cache is not None:
            attended = _write(cache.past, attended, context.position)
            cache = cache.replace(past=attended)
        h = self.attention(h, attended, mask=context.mask, bias=context.bias, train=train)
        x = self._add(x, h, context)

        attended = None if cache is None else cache.encoded
        if attended is None:
            attended = self.cross_attention.keys_and_values(context.encoded)
        h = self.cross_attention_norm(x)
        h = self.cross_attention(h, attended, mask=context.cross_mask, bias=None, train=train)
        x = self._add(x, h, context)
        return self._add(x, self.mlp(self.mlp_norm(x), train=train), context), cache

    def encoded_keys_and_values(
        self, carry: None, encoded: Float[Array, "batch inputs embed"]
    ) -> tuple[None, KeysAndValues]:
        """Returns this layer's projections of the encoder output, which no step changes."""
        return carry, self.cross_attention.keys_and_values(encoded)


def _write(past: KeysAndValues, new: KeysAndValues, position: jax.Array) -> KeysAndValues:
    def write(old: jax.Array, update: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(old, update.astype(old.dtype), position, axis=1)

    return jax.tree.map(write, past, new)


class Encoder(nn.Module):
    """Embedded tokens -> encoder output."""

    config: T5Config

    def setup(self):
        """Creates the parts."""
        self.relative_position_bias = _position_bias(self.config, bidirectional=True)
        scanned = {"__call__": {"in_axes": nn.broadcast}}
        self.layers = _scan(
            EncoderLayer,
            self.config,
            length=self.config.num_encoder_layers,
            unroll=1 if self.is_initializing() else self.config.scan_unroll,
            methods=scanned,
        )
        self.final_norm = _norm(self.config)
        self.dropout = _dropout(self.config)

    def __call__(
        self,
        x: Float[Array, "batch inputs embed"],
        *,
        mask: AttentionMask,
        train: bool,
    ) -> Float[Array, "batch inputs embed"]:
        """Returns the hidden states after the final norm."""
        bias = self.relative_position_bias(x.shape[1], x.shape[1])
        x = self.dropout(x, deterministic=not train)
        x, _ = self.layers(x, LayerContext(mask=mask, bias=bias, train=train))
        return self.dropout(self.final_norm(x), deterministic=not train)


class Decoder(nn.Module):
    """Embedded tokens and encoder output -> decoder hidden states."""

    config: T5Config

    def setup(self):
        """Creates the parts."""
        self.relative_position_bias = _position_bias(self.config, bidirectional=False)
        scanned = {
            "__call__": {"in_axes": (0, nn.broadcast)},
            "encoded_keys_and_values": {"in_axes": nn.broadcast},
        }
        self.layers = _scan(
            DecoderLayer,
            self.config,
            length=self.config.num_decoder_layers,
            unroll=1 if self.is_initializing() else self.config.scan_unroll,
            methods=scanned,
        )
        self.final_norm = _norm(self.config)
        self.dropout = _dropout(self.config)

    def __call__(
        self,
        x: Float[Array, "batch targets embed"],
        *,
        encoded: Float[Array, "batch inputs embed"],
        mask: AttentionMask,
        cross_mask: AttentionMask,
        train: bool,
        cache: LayerCache | None = None,
    ) -> tuple[Float[Array, "batch targets embed"], LayerCache | None]:
        """Returns the hidden states after the final norm, and the cache moved on.

        With a cache, `x` are the next positions, and ``mask.query_offset`` the first of them.
        """
        keys = x.shape[1] if cache is None else cache.past.keys.shape[2]
        context = LayerContext(
            mask=mask,
            bias=self.relative_position_bias(x.shape[1], keys, mask.query_offset),
            encoded=encoded,
            cross_mask=cross_mask,
            position=None if cache is None else mask.query_offset,
            train=train,
        )
        x = self.dropout(x, deterministic=not train)
        x, cache = self.layers(x, cache, context)
        return self.dropout(self.final_norm(x), deterministic=not train), cache

    def encoded_keys_and_values(self, encoded: Float[Array, "batch inputs embed"]) -> KeysAndValues:
        """Returns every layer's projections of the encoder output, [layers, batch, ...]."""
        return self.layers.encoded_keys_and_values(None, encoded)[1]


def empty_past(config: T5Config, batch: int, max_length: int) -> KeysAndValues:
    """Returns room for the keys and values of `max_length` positions in every decoder layer."""
    heads = (config.num_heads, config.head_dim)
    zeros = jnp.zeros([config.num_decoder_layers, batch, max_length, *heads], config.dtype)
    return KeysAndValues(zeros, zeros)


def _scan(
    layer: type[nn.Module],
    config: T5Config,
    *,
    length: int,
    unroll: int,
    methods: Mapping[str, Mapping[str, Any]],
) -> nn.Module:
    """Returns `length` layers with stacked parameters, run as a loop, `unroll` at a time.

    Initialisation is never unrolled: it runs once, and XLA takes minutes over its random bits.
    """
    if config.remat_policy is not None:
        layer = nn.remat(layer, policy=config.remat_policy, prevent_cse=False)
    shared = {
        "variable_axes": {"params": 0},
        "split_rngs": {"params": True, "dropout": True},
        "length": length,
        "unroll": min(unroll, length),
        "metadata_params": {nn.PARTITION_NAME: "layers"},
        "check_constancy_invariants": False,
    }
    scanned = nn.scan(layer, methods={name: {**shared, **own} for name, own in methods.items()})
    return scanned(config)


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


def _dropout(config: T5Config) -> nn.Dropout:
    return nn.Dropout(config.dropout_rate, broadcast_dims=(-2,))


def _position_bias(config: T5Config, *, bidirectional: bool) -> RelativePositionBias:
    return RelativePositionBias(
        num_heads=config.num_heads,
        bidirectional=bidirectional,
        num_buckets=config.relative_position_buckets,
        max_distance=config.relative_position_max_distance,
    )
