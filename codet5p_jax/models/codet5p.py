"""CodeT5+ (arXiv:2305.07922): one encoder-decoder, its modes as methods."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct, traverse_util
from jaxtyping import Array, Float, Int

from codet5p_jax.kernels.attention_mask import MASKED
from codet5p_jax.models.cache import LayerCache
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.decoder_only import (
    DecoderOnlyDecoder,
    DecoderOnlyEncoder,
    StackCache,
)
from codet5p_jax.models.decoder_only_config import INITIAL_STDDEV
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig, HalfConfig, ModelConfig
from codet5p_jax.models.layers import Linear
from codet5p_jax.models.masks import cross_mask, decoder_mask, encoder_mask
from codet5p_jax.models.t5 import Decoder, Encoder, language_model_head, token_embedder
from codet5p_jax.typing import PyTree

AnyArray = Array | np.ndarray
Inputs = Int[AnyArray, "batch inputs"]
Targets = Int[AnyArray, "batch targets"]
Hidden = Float[Array, "batch targets decoder_embed"]
Logits = Float[Array, "batch targets vocab"]


class DecodeCache(struct.PyTreeNode):
    """State of step-by-step decoding.

    Attributes:
        position: Where the next token goes; equal for all rows.
        layers: Keys and values of all layers, [layers, batch, ...].
    """

    position: Int[Array, ""]
    layers: LayerCache | StackCache


class CodeT5p(nn.Module):
    """CodeT5+: ``model.apply({"params": params}, ..., method="encode")``.

    Token arguments are int32 ids, `config.pad_id` being padding. Segment ids, where given, name the
    example of a packed row that a position belongs to, from 1; 0 is padding. With ``train=True`` an
    rng named "dropout" is needed where the config has dropout.

    Attributes:
        config: A T5Config: both halves are T5's, which share the token embedding; or an
            EncoderDecoderConfig: each half is of a family of its own, with its own embedding.
    """

    config: ModelConfig

    def setup(self):
        """Creates the parts."""
        config = self.config
        if isinstance(config, EncoderDecoderConfig):
            self.encoder = _encoder_half(config.encoder)
            self.decoder = _decoder_half(config.decoder, config.cross_attention_layers)
            if config.projects_encoded:
                self.encoder_to_decoder = Linear(
                    config.decoder.embed_dim,
                    (None, "embed"),
                    stddev=INITIAL_STDDEV,
                    use_bias=True,
                    dtype=config.dtype,
                )
        else:
            self.token_embedder = token_embedder(config)
            self.encoder = Encoder(config, self.token_embedder)
            if config.num_decoder_layers and not config.tie_embeddings:
                self.lm_head = language_model_head(config)
            if config.num_decoder_layers:
                head = None if config.tie_embeddings else self.lm_head
                self.decoder = Decoder(config, self.token_embedder, head)
        if config.projection_dim is not None:
            self.projection = _head(config.projection_dim, ("embed", "projection"))
        if config.matching_head:
            self.matching_head = _head(2, ("embed", "matching"))

    def __call__(
        self,
        encoder_input_tokens: Inputs,
        decoder_input_tokens: Targets,
        encoder_segment_ids: Inputs | None = None,
        decoder_segment_ids: Targets | None = None,
        *,
        train: bool = False,
    ) -> Logits:
        """Returns float32 logits of the next token at every decoder position."""
        encoded = self.encode(encoder_input_tokens, encoder_segment_ids, train=train)
        if self.is_initializing():
            self._create_heads(encoded)
        hidden = self.decode(
            encoded,
            encoder_input_tokens,
            decoder_input_tokens,
            encoder_segment_ids,
            decoder_segment_ids,
            train=train,
        )
        return self.logits(hidden)

    def encode(
        self,
        encoder_input_tokens: Inputs,
        encoder_segment_ids: Inputs | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "batch inputs embed"]:
        """Returns the encoder's hidden states after its final norm."""
        return self.encoder(
            jnp.asarray(encoder_input_tokens),
            encoder_segment_ids,
            mask=encoder_mask(encoder_input_tokens, encoder_segment_ids, self.config.pad_id),
            train=train,
        )

    def project(
        self, encoded: Float[Array, "batch inputs embed"]
    ) -> Float[Array, "batch projection"]:
        """Returns one vector of unit norm per row, read at position 0 (``<s>``), float32.

        Raises:
            ValueError: The config has no projection_dim.
        """
        if self.config.projection_dim is None:
            raise ValueError(
                f"This model has no projection: {type(self.config).__name__}.projection_dim is "
                "None. Set it (256 in the released embedding and bimodal models) to embed whole "
                "sequences."
            )
        h = self.projection(encoded[:, 0].astype(jnp.float32))
        square = jnp.sum(jnp.square(h), axis=-1, keepdims=True)
        return h * jax.lax.rsqrt(jnp.maximum(square, 1e-24))

    def embed(self, tokens: Inputs, *, train: bool = False) -> Float[Array, "batch projection"]:
        """Returns the embedding of each row of `tokens` (``<s> ... </s>``), of unit norm."""
        return self.project(self.encode(tokens, train=train))

    def decode(
        self,
        encoded: Float[Array, "batch inputs embed"],
        encoder_input_tokens: Inputs,
        decoder_input_tokens: Targets,
        encoder_segment_ids: Inputs | None = None,
        decoder_segment_ids: Targets | None = None,
        *,
        train: bool = False,
    ) -> Hidden:
        """Returns the decoder's hidden states after its final norm.

        Raises:
            ValueError: The model is an encoder alone.
        """
        self._require_decoder()
        segments = encoder_segment_ids, decoder_segment_ids
        hidden, _ = self.decoder(
            jnp.asarray(decoder_input_tokens),
            decoder_segment_ids,
            encoded=self._for_decoder(encoded),
            encoder_segments=encoder_segment_ids,
            mask=decoder_mask(decoder_segment_ids),
            cross_mask=cross_mask(encoder_input_tokens, *segments, pad_id=self.config.pad_id),
            train=train,
        )
        return hidden

    def logits(self, hidden: Hidden) -> Logits:
        """Returns float32 logits; the rows that pad the vocabulary have none (-1e9).

        Raises:
            ValueError: The model is an encoder alone.
        """
        self._require_decoder()
        config, logits = self.config, self.decoder.logits(hidden)
        logits = nn.with_logical_constraint(logits, ("batch", "length", "vocab"))
        if config.padded_vocab_size == config.vocab_size:
            return logits
        is_real = jnp.arange(config.padded_vocab_size) < config.vocab_size
        return jnp.where(is_real[None, None], logits, MASKED)

    def decode_only(
        self,
        decoder_input_tokens: Targets,
        decoder_segment_ids: Targets | None = None,
        clm_id: int | None = None,
        *,
        train: bool = False,
    ) -> Logits:
        """Returns logits of the decoder as a language model: the encoder sees ``[CLM]`` alone."""
        batch = decoder_input_tokens.shape[0]
        clm_id = self.config.clm_id if clm_id is None else clm_id
        clm = jnp.full([batch, 1], clm_id, jnp.int32)
        return self(clm, decoder_input_tokens, None, decoder_segment_ids, train=train)

    def match(
        self,
        text_tokens: Inputs,
        code_tokens: Targets,
        match_id: int | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "batch classes"]:
        """Returns float32 logits of (no match, match) for each pair of text and code.

        The first code token is replaced by `match_id`, ``[ENC]`` (paper, section 3.2); None:
        that of the config.
        """
        match_id = self.config.match_id if match_id is None else match_id
        decoder_input_tokens = jnp.asarray(code_tokens).at[:, 0].set(match_id)
        encoded = self.encode(text_tokens, train=train)
        return self.match_encoded(encoded, text_tokens, decoder_input_tokens, train=train)

    def match_encoded(
        self,
        encoded_text: Float[Array, "batch inputs embed"],
        text_tokens: Inputs,
        decoder_input_tokens: Targets,
        *,
        train: bool = False,
    ) -> Float[Array, "batch classes"]:
        """Returns what `match` does, given the encoded text and ``[ENC] code </s>``.

        Raises:
            ValueError: The config has no matching head.
        """
        self._require_matching_head()
        hidden = self.decode(encoded_text, text_tokens, decoder_input_tokens, train=train)
        config = self.config
        end = last_eos_position(decoder_input_tokens, eos_id=config.eos_id, pad_id=config.pad_id)
        h = jnp.take_along_axis(hidden, end[:, None, None], axis=1)[:, 0]
        return self.matching_head(h.astype(jnp.float32))

    def init_cache(
        self,
        batch: int,
        max_length: int,
        encoded: Float[Array, "batch inputs embed"] | None = None,
    ) -> DecodeCache:
        """Returns an empty cache for `max_length` decoder positions.

        Given `encoded`, the cross-attention's keys and values are computed here, once, instead
        of in every step.
        """
        self._require_decoder()
        encoded = None if encoded is None else self._for_decoder(encoded)
        layers = self.decoder.empty_cache(batch, max_length, encoded)
        return DecodeCache(position=jnp.int32(0), layers=layers)

    def decode_step(
        self,
        encoded: Float[Array, "batch inputs embed"],
        encoder_input_tokens: Inputs,
        token: Targets,
        cache: DecodeCache,
    ) -> tuple[Hidden, DecodeCache]:
        """Returns the hidden states at the next positions (one, or a whole prompt's).

        Equals the same positions of `decode` over all tokens so far.
        """
        self._require_decoder()
        hidden, layers = self.decoder(
            jnp.asarray(token),
            encoded=self._for_decoder(encoded),
            encoder_segments=None,
            mask=decoder_mask().replace(query_offset=cache.position),
            cross_mask=cross_mask(encoder_input_tokens, pad_id=self.config.pad_id),
            train=False,
            cache=cache.layers,
        )
        return hidden, DecodeCache(position=cache.position + token.shape[1], layers=layers)

    def _for_decoder(
        self, encoded: Float[Array, "batch inputs embed"]
    ) -> Float[Array, "batch inputs decoder_embed"]:
        """Returns the encoder's output as wide as the decoder."""
        config = self.config
        if isinstance(config, EncoderDecoderConfig) and config.projects_encoded:
            return self.encoder_to_decoder(encoded)
        return encoded

    def _create_heads(self, encoded: Float[Array, "batch inputs embed"]) -> None:
        """Creates the parameters of the heads that `__call__` itself does not use."""
        if self.config.projection_dim is not None:
            self.projection(encoded[:, 0])
        if self.config.matching_head:
            self.matching_head(self._for_decoder(encoded)[:, 0])

    def _require_decoder(self) -> None:
        if not self.config.num_decoder_layers:
            raise ValueError(
                "This model is an encoder alone: T5Config.num_decoder_layers is 0. Only encode, "
                "project and embed work; give it decoder layers to decode or match."
            )

    def _require_matching_head(self) -> None:
        if not self.config.matching_head:
            raise ValueError(
                f"This model has no matching head: {type(self.config).__name__}.matching_head is "
                "False. Set it to True, and train it in stage 2, to match text with code."
            )


def last_eos_position(tokens: Targets, *, eos_id: int, pad_id: int) -> Int[Array, " batch"]:
    """Returns the position of each row's last ``</s>``; of its last token where it has none."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    last_eos = jnp.max(jnp.where(tokens == eos_id, positions, -1), axis=1)
    last_token = jnp.max(jnp.where(tokens != pad_id, positions, 0), axis=1)
    return jnp.where(last_eos >= 0, last_eos, last_token)


def logits_params(config: ModelConfig, params: PyTree) -> PyTree:
    """Returns those parameters that the logits depend on, and no others, in a tree like `params`.

    Raises:
        KeyError: They are not there.
    """
    *outer, last = config.logits_path
    for name in outer:
        params = params[name]
    found: PyTree = {last: params[last]}
    for name in reversed(outer):
        found = {name: found}
    return found


def language_model_paths(config: ModelConfig, params: PyTree) -> frozenset[str]:
    """Returns the paths, with slashes, of what a decoder-only decoder was before it got an encoder.

    Frozen, it is what the paper's section 3.3 keeps as it is. Empty for a decoder of T5's.
    """
    if isinstance(config, T5Config) or isinstance(config.decoder, T5Config):
        return frozenset()
    paths = traverse_util.flatten_dict({"decoder": params["decoder"]}, sep="/")
    return frozenset(path for path in paths if "/cross_attention/" not in path)


def abstract_params(config: ModelConfig) -> PyTree:
    """Returns shapes, dtypes and logical axes of all parameters, with nothing allocated.

    Leaves are `nn.LogicallyPartitioned` boxes of `jax.ShapeDtypeStruct`; `nn.unbox` takes the
    shapes, `nn.get_partition_spec` the axes.
    """
    return jax.eval_shape(functools.partial(fresh_params, CodeT5p(config)), jax.random.key(0))


def fresh_params(model: CodeT5p, rng: jax.Array) -> PyTree:
    """Returns random parameters, an encoder alone included.

    Leaves are `nn.LogicallyPartitioned` boxes, which hold the logical axes; see `nn.unbox`.
    """
    tokens = jnp.ones((1, 2), jnp.int32)
    if model.config.num_decoder_layers:
        return dict(model.init(rng, tokens, tokens)["params"])
    return dict(model.init(rng, tokens, method=_encoder_alone)["params"])


def _encoder_alone(model: CodeT5p, tokens: Inputs) -> jax.Array:
    encoded = model.encode(tokens)
    return model.project(encoded) if model.config.projection_dim else encoded


def _encoder_half(config: HalfConfig) -> nn.Module:
    return Encoder(config) if isinstance(config, T5Config) else DecoderOnlyEncoder(config)


def _decoder_half(config: HalfConfig, cross_attention_layers: int) -> nn.Module:
    if isinstance(config, T5Config):
        return Decoder(config)
    return DecoderOnlyDecoder(config, cross_attention_layers)


def _head(features: int, axes: tuple[str, str]) -> nn.Dense:
    kernel_init = nn.with_logical_partitioning(nn.initializers.normal(0.02), axes)
    bias_init = nn.with_logical_partitioning(nn.initializers.zeros_init(), axes[1:])
    return nn.Dense(features, kernel_init=kernel_init, bias_init=bias_init, dtype=jnp.float32)
