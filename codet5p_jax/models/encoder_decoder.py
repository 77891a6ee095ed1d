"""Shape of a CodeT5+ whose halves come from different models (paper, section 3.3)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from jax.typing import DTypeLike

from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.config_fields import check_fields
from codet5p_jax.models.decoder_only_config import DecoderOnlyConfig
from codet5p_jax.models.llama import LlamaConfig

HalfConfig = T5Config | DecoderOnlyConfig
FAMILIES: Mapping[str, type[DecoderOnlyConfig]] = {
    config.family: config for config in (CodeGenConfig, LlamaConfig)
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig:
    """An encoder and a decoder, each of a family of its own, with a vocabulary in common.

    The ids are by default those of CodeGen's tokenizer as the project uses it (tokenizer.py).

    Attributes:
        encoder: Shape of the encoder: a decoder-only family, or a T5Config without decoder layers.
        decoder: Shape of the decoder: a decoder-only family, or a T5Config without encoder layers.
        cross_attention_layers: Layers of a decoder-only decoder, from the top, that attend to the
            encoder's output; 1 in the released models. All of a T5's do.
        projection_dim: Width of the embedding of a whole sequence. None: no such head.
        matching_head: Whether there is a two-way text-code matching head.
        pad_id: Id of padding.
        start_id: First id that the decoder reads.
        eos_id: Id that ends a sequence.
        clm_id: Id of ``[CLM]``.
        match_id: Id of ``[ENC]``, which asks the decoder to match.
    """

    family: ClassVar[str] = "encoder_decoder"

    encoder: HalfConfig
    decoder: HalfConfig
    cross_attention_layers: int = 1
    projection_dim: int | None = None
    matching_head: bool = False
    pad_id: int = 50_399
    start_id: int = 50_256
    eos_id: int = 50_256
    clm_id: int = 50_395
    match_id: int = 50_396

    def __post_init__(self):
        self._check_halves()
        for name in ("vocab_size", "dtype"):
            ours, theirs = getattr(self.encoder, name), getattr(self.decoder, name)
            if ours != theirs:
                raise ValueError(
                    f"The encoder has {name} {ours}, the decoder {theirs}; both read the same "
                    "tokens and compute in the same dtype. Set both alike."
                )
        layers = getattr(self.decoder, "num_layers", None)
        if layers is not None and not 1 <= self.cross_attention_layers <= layers:
            raise ValueError(
                f"EncoderDecoderConfig.cross_attention_layers is {self.cross_attention_layers}; it "
                f"must be 1 to {layers}, the layers of the decoder."
            )
        if layers is None and self.cross_attention_layers != 1:
            raise ValueError(
                f"EncoderDecoderConfig.cross_attention_layers is {self.cross_attention_layers}; "
                "a T5's decoder attends to the encoder in all of its layers; leave it out."
            )
        for name in ("pad_id", "start_id", "eos_id", "clm_id", "match_id"):
            if not 0 <= getattr(self, name) < self.vocab_size:
                raise ValueError(
                    f"EncoderDecoderConfig.{name} is {getattr(self, name)}, but the vocabulary has "
                    f"{self.vocab_size} rows. Give the ids of the tokenizer."
                )

    def _check_halves(self) -> None:
        for name, half in (("encoder", self.encoder), ("decoder", self.decoder)):
            other = "decoder" if name == "encoder" else "encoder"
            if isinstance(half, T5Config) and (
                not getattr(half, f"num_{name}_layers") or getattr(half, f"num_{other}_layers")
            ):
                raise ValueError(
                    f"EncoderDecoderConfig.{name} is a T5Config of {half.num_encoder_layers} "
                    f"encoder and {half.num_decoder_layers} decoder layers; as {name} it has "
                    f"num_{other}_layers=0 and at least one layer of its own."
                )

    @property
    def vocab_size(self) -> int:
        """Rows of the vocabulary that have a meaning."""
        return self.decoder.vocab_size

    @property
    def padded_vocab_size(self) -> int:
        """Rows of each embedding as allocated."""
        return self.decoder.padded_vocab_size

    @property
    def dtype(self) -> DTypeLike:
        """Dtype of the computation."""
        return self.decoder.dtype

    @property
    def embed_dim(self) -> int:
        """Width of the encoder's output, which the heads read."""
        return self.encoder.embed_dim

    @property
    def remat_policy(self) -> Callable[..., Any] | None:
        """Which intermediates of a layer the backward pass keeps: the encoder's, which has one."""
        return self.encoder.remat_policy

    @property
    def num_encoder_layers(self) -> int:
        """Layers of the encoder."""
        return _layers(self.encoder)

    @property
    def num_decoder_layers(self) -> int:
        """Layers of the decoder."""
        return _layers(self.decoder)

    @property
    def projects_encoded(self) -> bool:
        """Whether a linear layer takes the encoder's output to the width of the decoder."""
        return self.encoder.embed_dim != self.decoder.embed_dim

    @property
    def logits_path(self) -> tuple[str, ...]:
        """Path of the parameters that the logits depend on."""
        return "decoder", "token_embedder" if self.decoder.tie_embeddings else "lm_head"

    def num_parameters(self) -> int:
        """Returns the number of parameters, padding rows of the vocabulary not counted."""
        encoder, decoder = self.encoder, self.decoder
        count = (encoder.embed_dim + 1) * (self.projection_dim or 0)
        count += self.matching_head * 2 * (decoder.embed_dim + 1)
        if self.projects_encoded:
            count += (encoder.embed_dim + 1) * decoder.embed_dim
        if isinstance(encoder, T5Config):
            count += encoder.num_parameters()
        else:
            count += encoder.encoder_parameters
        if isinstance(decoder, T5Config):
            return count + decoder.num_parameters()
        return count + decoder.decoder_parameters(self.cross_attention_layers)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values; functions and dtypes by name.

        Raises:
            ValueError: A function has no name (a lambda, say).
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        halves = {name: values[name].to_dict() for name in ("encoder", "decoder")}
        return {"family": self.family, **values, **halves}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EncoderDecoderConfig":
        """Returns the config that `to_dict` wrote.

        Raises:
            ValueError: A field or a family is unknown, or a function cannot be found.
        """
        values = {name: value for name, value in values.items() if name != "family"}
        check_fields(cls, values)
        halves = {name: _half(values[name]) for name in ("encoder", "decoder")}
        return cls(**{**values, **halves})


ModelConfig = T5Config | EncoderDecoderConfig


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """Returns the config of a model that its `to_dict` wrote.

    Raises:
        ValueError: A field or a family is unknown, or a function cannot be found.
    """
    if values.get("family") == EncoderDecoderConfig.family:
        return EncoderDecoderConfig.from_dict(values)
    return T5Config.from_dict(values)


def with_execution_fields(config: ModelConfig, **fields: Any) -> ModelConfig:
    """Returns `config` with other execution fields, such as the dtype, in all its parts."""
    if isinstance(config, T5Config):
        return dataclasses.replace(config, **fields)
    halves = {
        "encoder": dataclasses.replace(config.encoder, **fields),
        "decoder": dataclasses.replace(config.decoder, **fields),
    }
    return dataclasses.replace(config, **halves)


def _half(values: Mapping[str, Any]) -> HalfConfig:
    family = values.get("family", "t5")
    if family == "t5":
        return T5Config.from_dict(values)
    if family not in FAMILIES:
        raise ValueError(
            f"Unknown family {family!r} of models; known are t5, {', '.join(FAMILIES)}."
        )
    return FAMILIES[family].from_dict(values)


def _layers(half: HalfConfig) -> int:
    if isinstance(half, T5Config):
        return half.num_encoder_layers + half.num_decoder_layers
    return half.num_layers
