"""Our T5Config as the config.json of transformers' T5ForConditionalGeneration, and back."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn

from codet5p_jax.models.config import T5Config
from codet5p_jax.models.layers import gelu_new

ARCHITECTURE = "T5ForConditionalGeneration"
PAD_ID, BOS_ID, EOS_ID, DECODER_START_ID = 0, 1, 2, 0

# feed_forward_proj -> (gated_mlp, activation): T5, T5 v1.1 and UL2.
FEED_FORWARD: Mapping[str, tuple[bool, Callable[..., Any] | None]] = {
    "relu": (False, nn.relu),
    "gated-gelu": (True, gelu_new),
    "gated-silu": (True, nn.silu),
}

# Our field -> theirs, where a value is copied.
_COPIED = {
    "vocab_size": "vocab_size",
    "embed_dim": "d_model",
    "num_encoder_layers": "num_layers",
    "num_decoder_layers": "num_decoder_layers",
    "num_heads": "num_heads",
    "head_dim": "d_kv",
    "mlp_dim": "d_ff",
    "relative_position_buckets": "relative_attention_num_buckets",
    "relative_position_max_distance": "relative_attention_max_distance",
    "layer_norm_epsilon": "layer_norm_epsilon",
    "dropout_rate": "dropout_rate",
}
_OPTIONAL = {  # defaults of transformers for keys that small configs leave out
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "dropout_rate": 0.1,
}


def to_huggingface(config: T5Config) -> dict[str, Any]:
    """Returns the contents of config.json, with the fields of the released codet5p-220m.

    Raises:
        ValueError: The model has no decoder, or a feed-forward block that T5 does not have.
    """
    _check_exportable(config)
    feed_forward = {value: name for name, value in FEED_FORWARD.items()}
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "t5",
        **{theirs: getattr(config, ours) for ours, theirs in _COPIED.items()},
        "feed_forward_proj": feed_forward[config.gated_mlp, config.activation],
        "tie_word_embeddings": config.tie_embeddings,
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        "use_cache": True,
        "pad_token_id": PAD_ID,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "decoder_start_token_id": DECODER_START_ID,
        "n_positions": 512,
    }


def generation_config(config: T5Config) -> dict[str, Any]:
    """Returns the contents of generation_config.json: the ids that `generate` needs."""
    return {
        # transformers 5 sizes the cache by the encoder's layers, and fails if the decoder has more
        "use_cache": config.num_decoder_layers <= config.num_encoder_layers,
        "pad_token_id": PAD_ID,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "decoder_start_token_id": DECODER_START_ID,
    }


def from_huggingface(contents: Mapping[str, Any], *, source: str = "config.json") -> T5Config:
    """Returns our config of a T5 whose config.json holds `contents`.

    Args:
        contents: The parsed file.
        source: What errors call it.

    Raises:
        ValueError: The model is no T5, a value is missing, or one is not supported here.
    """
    _check_architecture(contents, source=source)
    values = {**_OPTIONAL, "num_decoder_layers": contents.get("num_layers"), **contents}
    missing = [key for key in _COPIED.values() if values.get(key) is None]
    if missing:
        raise ValueError(f"{source} lacks {', '.join(missing)}; is it the config of a whole model?")
    _check_supported(values, source=source)
    gated_mlp, activation = FEED_FORWARD[values.get("feed_forward_proj", "relu")]
    return T5Config(
        **{ours: values[theirs] for ours, theirs in _COPIED.items()},
        gated_mlp=gated_mlp,
        activation=activation,
        tie_embeddings=_scales_logits(contents),
    )


def _check_exportable(config: T5Config) -> None:
    if not config.num_decoder_layers:
        raise ValueError(
            f"The model has no decoder (num_decoder_layers=0), which {ARCHITECTURE} needs."
        )
    if (config.gated_mlp, config.activation) not in FEED_FORWARD.values():
        raise ValueError(
            f"The feed-forward block (gated_mlp={config.gated_mlp}, activation="
            f"{config.activation}) has no name in config.json; it knows {', '.join(FEED_FORWARD)}."
        )


def _scales_logits(contents: Mapping[str, Any]) -> bool:
    """Tied T5 scales the decoder output. transformers 5 stores this apart from the tying."""
    tied = contents.get("tie_word_embeddings", True)
    return bool(contents.get("scale_decoder_outputs", tied))


def _check_architecture(contents: Mapping[str, Any], *, source: str) -> None:
    architectures = contents.get("architectures") or [ARCHITECTURE]
    if contents.get("model_type") != "t5" or ARCHITECTURE not in architectures:
        raise ValueError(
            f"{source} describes model_type {contents.get('model_type')!r}, architectures "
            f"{contents.get('architectures')}; supported: model_type 't5', {ARCHITECTURE}."
        )


def _check_supported(values: Mapping[str, Any], *, source: str) -> None:
    supported = {
        "feed_forward_proj": tuple(FEED_FORWARD),
        "pad_token_id": (PAD_ID,),
        "decoder_start_token_id": (DECODER_START_ID,),
    }
    for key, choices in supported.items():
        value = values.get(key, choices[0])
        if value not in choices:
            raise ValueError(
                f"{source} has {key}={value!r}; supported: {', '.join(map(repr, choices))}."
            )
