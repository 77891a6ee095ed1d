"""Shape of a T5."""

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
from codet5p_jax.models.layers import gelu_new
from codet5p_jax.models.vocabulary import padded_rows

TASK_TOKENS = 3  # [ENC], [TDEC], [CDEC]: the last rows of a two-stage model's vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Config:
    """Shape of a T5 encoder-decoder. HF name in parentheses where it differs.

    Attributes:
        vocab_size: Rows of the token embedding that have a meaning.
        embed_dim: Width of the residual stream (d_model).
        num_encoder_layers: Layers of the encoder (num_layers); 0: the decoder alone, as half of
            an EncoderDecoderConfig.
        num_decoder_layers: Layers of the decoder; 0: the model is an encoder alone.
        num_heads: Attention heads per layer.
        head_dim: Width of one head (d_kv); free of embed_dim in T5.
        mlp_dim: Width of the feed-forward hidden layer (d_ff).
        gated_mlp: Whether the feed-forward block is gated, as in T5 v1.1.
        activation: Its function. None: relu, and gelu_new in a gated block.
        tie_embeddings: Whether logits use the token embedding, scaled by embed_dim**-0.5.
        relative_position_buckets: Rows of a stack's bias table (relative_attention_num_buckets).
        relative_position_max_distance: Distances from here on share a bucket.
        layer_norm_epsilon: Added to the mean square in the norms.
        dropout_rate: Dropout everywhere T5 has it.
        embedding_stddev: Standard deviation of the initial token embedding; T5 has 1.
        projection_dim: Width of the embedding of a whole sequence. None: no such head.
        matching_head: Whether there is a two-way text-code matching head (itm_head).
        scan_unroll: Layers per iteration of the loop over layers; the number of layers unrolls
            it all (slower to compile, faster to run on CPU). Parameters are stacked either way.
        remat_policy: Which intermediates of a layer the backward pass keeps, a function such as
            jax.checkpoint_policies.dots_saveable. None: all of them.
        attention: The attention function (codet5p_jax.models.attention).
        dtype: Dtype of the computation; parameters are float32.
    """

    pad_id: ClassVar[int] = 0
    start_id: ClassVar[int] = 0  # the decoder reads the padding id first
    eos_id: ClassVar[int] = 2
    clm_id: ClassVar[int] = 3  # [CLM], the reused <unk>: asks the decoder to continue

    vocab_size: int
    embed_dim: int
    num_encoder_layers: int
    num_decoder_layers: int
    num_heads: int
    head_dim: int
    mlp_dim: int
    gated_mlp: bool = False
    activation: Callable[..., Any] | None = None
    tie_embeddings: bool = True
    relative_position_buckets: int = 32
    relative_position_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    dropout_rate: float = 0.1
    embedding_stddev: float = 1.0
    projection_dim: int | None = None
    matching_head: bool = False
    scan_unroll: int = 1
    remat_policy: Callable[..., Any] | None = None
    attention: AttentionFunction = dot_product_attention
    dtype: DTypeLike = jnp.float32

    def __post_init__(self):
        if self.activation is None:
            object.__setattr__(self, "activation", gelu_new if self.gated_mlp else nn.relu)
        check_at_least(self, _LEAST)
        if not 0 <= self.dropout_rate < 1:
            raise ValueError(f"T5Config.dropout_rate is {self.dropout_rate}; expected 0 <= it < 1.")
        if not self.num_encoder_layers + self.num_decoder_layers:
            raise ValueError("T5Config has neither encoder nor decoder layers; give it some.")
        if self.matching_head and not self.num_decoder_layers:
            raise ValueError(
                "T5Config.matching_head reads the decoder, but num_decoder_layers is 0. Set "
                "matching_head=False for an encoder-only model."
            )
        self._check_relative_positions()

    def _check_relative_positions(self) -> None:
        buckets, distance = self.relative_position_buckets, self.relative_position_max_distance
        if buckets % 4:
            raise ValueError(
                f"T5Config.relative_position_buckets is {buckets}; it must be a multiple of 4: "
                "two directions, each half exact and half logarithmic."
            )
        if distance <= buckets // 2:
            raise ValueError(
                f"T5Config.relative_position_max_distance is {distance}; it must exceed "
                f"relative_position_buckets // 2 = {buckets // 2}, the distances that have a "
                "bucket of their own."
            )

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding as allocated."""
        return padded_rows(self.vocab_size)

    @property
    def mlp_matrices(self) -> int:
        """Kernels of a feed-forward block."""
        return 3 if self.gated_mlp else 2

    @property
    def logits_path(self) -> tuple[str, ...]:
        """Path of the parameters that the logits depend on."""
        return ("token_embedder" if self.tie_embeddings else "lm_head",)

    @property
    def match_id(self) -> int:
        """Id of ``[ENC]``, which asks the decoder to match: the first of the three task tokens."""
        return self.vocab_size - TASK_TOKENS

    def num_parameters(self) -> int:
        """Returns the number of parameters, padding rows of the vocabulary not counted."""
        d, joined = self.embed_dim, self.num_heads * self.head_dim
        attention = 4 * d * joined  # query, key, value, out
        mlp = self.mlp_matrices * d * self.mlp_dim
        bias_table = self.relative_position_buckets * self.num_heads
        # each layer's blocks and their norms, the bias table, the final norm
        encoder = self.num_encoder_layers * (attention + mlp + 2 * d) + bias_table + d
        decoder = self.num_decoder_layers * (2 * attention + mlp + 3 * d) + bias_table + d
        has_decoder = self.num_decoder_layers > 0
        embeddings = 2 if has_decoder and not self.tie_embeddings else 1
        projection = (d + 1) * self.projection_dim if self.projection_dim else 0
        matching = (d + 1) * 2 if self.matching_head else 0
        return (
            embeddings * self.vocab_size * d
            + (self.num_encoder_layers > 0) * encoder
            + has_decoder * decoder
            + projection
            + matching
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values; functions and dtypes by name.

        Raises:
            ValueError: A function has no name (a lambda, say).
        """
        return fields_to_json(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "T5Config":
        """Returns the config that `to_dict` wrote.

        Raises:
            ValueError: A field is unknown, or a function cannot be found.
        """
        return fields_from_json(cls, values)


_LEAST = {
    "vocab_size": 4,
    "embed_dim": 1,
    "num_encoder_layers": 0,
    "num_decoder_layers": 0,
    "num_heads": 1,
    "head_dim": 1,
    "mlp_dim": 1,
    "relative_position_buckets": 4,
    "layer_norm_epsilon": 0,
    "embedding_stddev": 0,
    "scan_unroll": 1,
}
