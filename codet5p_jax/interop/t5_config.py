"""Our T5Config as the config.json of T5, of CodeT5+'s embedding and bimodal models, and back."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn

from codet5p_jax.interop.config_values import check_supported, copied_values, naming
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.layers import gelu_new

PAD_ID, BOS_ID, EOS_ID, DECODER_START_ID = 0, 1, 2, 0

# feed_forward_proj -> (gated_mlp, activation): T5, T5 v1.1 and UL2.
FEED_FORWARD: Mapping[str, tuple[bool, Callable[..., Any] | None]] = {
    "relu": (False, nn.relu),
    "gated-gelu": (True, gelu_new),
    "gated-silu": (True, nn.silu),
}
_DENSE_ACTIVATIONS = {"relu": "relu", "gated-gelu": "gelu_new", "gated-silu": "silu"}

# Our field -> theirs, where a value is copied.
_COPIED = {
    "vocab_size": "vocab_size",
    "embed_dim": "d_model",
    "num_encoder_layers": "num_layers",
    "num_heads": "num_heads",
    "head_dim": "d_kv",
    "mlp_dim": "d_ff",
    "relative_position_buckets": "relative_attention_num_buckets",
    "relative_position_max_distance": "relative_attention_max_distance",
    "layer_norm_epsilon": "layer_norm_epsilon",
    "dropout_rate": "dropout_rate",
}
_DECODER = {"num_decoder_layers": "num_decoder_layers"}
_PROJECTION = {"projection_dim": "embed_dim"}
_SUPPORTED = {
    "feed_forward_proj": tuple(FEED_FORWARD),
    "pad_token_id": (PAD_ID,),
    "decoder_start_token_id": (DECODER_START_ID,),
}
_OPTIONAL = {  # defaults of transformers for keys that small configs leave out
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "dropout_rate": 0.1,
}


def to_huggingface(config: T5Config) -> dict[str, Any]:
    """Returns what config.json holds of a T5ForConditionalGeneration, as of codet5p-220m.

    Raises:
        ValueError: The model has no decoder, or a feed-forward block that T5 does not have.
    """
    _check_decoder(config)
    return {
        **_shared(config, _COPIED | _DECODER),
        "tie_word_embeddings": config.tie_embeddings,
        "is_encoder_decoder": True,
        "use_cache": True,
        "bos_token_id": BOS_ID,
        "decoder_start_token_id": DECODER_START_ID,
    }


def embedding_to_huggingface(config: T5Config) -> dict[str, Any]:
    """Returns what config.json holds of the encoder and the projection, as of 110m-embedding.

    Raises:
        ValueError: The model has no projection, or a feed-forward block that T5 does not have.
    """
    _check_projection(config)
    return {
        **_shared(config, _COPIED | _PROJECTION),
        "is_encoder_decoder": False,
        "use_cache": True,
    }


def bimodal_to_huggingface(config: T5Config) -> dict[str, Any]:
    """Returns what config.json holds of a T5 with both heads, as of 220m-bimodal.

    Raises:
        ValueError: The model has no decoder, projection or matching head, or a feed-forward block
            that T5 does not have.
    """
    _check_projection(config)
    if not config.matching_head:
        raise ValueError(
            "The model has no matching head (T5Config.matching_head is False), which the format "
            "bimodal needs. Export it as t5, or as embedding."
        )
    return {**to_huggingface(config), "embed_dim": config.projection_dim}


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


def from_huggingface(contents: Mapping[str, Any], source: str = "config.json") -> T5Config:
    """Returns our config of a T5 whose config.json holds `contents`.

    Args:
        contents: The parsed file.
        source: What errors call it.

    Raises:
        ValueError: A value is missing, or one is not supported here.
    """
    values = {"num_decoder_layers": contents.get("num_layers"), **contents}
    return _t5(values, _COPIED | _DECODER, source=source, tie_embeddings=_scales_logits(contents))


def embedding_from_huggingface(
    contents: Mapping[str, Any], source: str = "config.json"
) -> T5Config:
    """Returns our config of an embedding model; see `from_huggingface`."""
    return _t5(contents, _COPIED | _PROJECTION, source=source, num_decoder_layers=0)


def bimodal_from_huggingface(contents: Mapping[str, Any], source: str = "config.json") -> T5Config:
    """Returns our config of a bimodal model; see `from_huggingface`."""
    values = {"num_decoder_layers": contents.get("num_layers"), **contents}
    return _t5(
        values,
        _COPIED | _DECODER | _PROJECTION,
        source=source,
        matching_head=True,
        tie_embeddings=_scales_logits(contents),
    )


def feed_forward_name(config: T5Config) -> str:
    """Returns what config.json calls the feed-forward block.

    Raises:
        ValueError: T5 has no such block.
    """
    block = (config.gated_mlp, config.activation)
    for name, known in FEED_FORWARD.items():
        if known == block:
            return name
    raise ValueError(
        f"The feed-forward block (gated_mlp={config.gated_mlp}, activation="
        f"{config.activation}) has no name in config.json; it knows {', '.join(FEED_FORWARD)}."
    )


def _shared(config: T5Config, copied: Mapping[str, str]) -> dict[str, Any]:
    name = feed_forward_name(config)
    return {
        **{theirs: getattr(config, ours) for ours, theirs in copied.items()},
        "feed_forward_proj": name,
        "dense_act_fn": _DENSE_ACTIVATIONS[name],
        "is_gated_act": config.gated_mlp,
        "initializer_factor": 1.0,
        "pad_token_id": PAD_ID,
        "eos_token_id": EOS_ID,
        "n_positions": 512,
    }


def _check_decoder(config: T5Config) -> None:
    if not config.num_decoder_layers:
        raise ValueError(
            "The model has no decoder (num_decoder_layers=0), which T5ForConditionalGeneration "
            "needs. Export it as embedding (--format=embedding)."
        )


def _check_projection(config: T5Config) -> None:
    if config.projection_dim is None:
        raise ValueError(
            "The model has no projection (T5Config.projection_dim is None), which the formats "
            "embedding and bimodal need. Export it as t5 (--format=t5)."
        )


def _t5(
    contents: Mapping[str, Any], copied: Mapping[str, str], *, source: str, **fields: Any
) -> T5Config:
    values = {**_OPTIONAL, **contents}
    found = copied_values(values, copied, config=T5Config, source=source)
    check_supported(values, _SUPPORTED, source=source)
    gated_mlp, activation = FEED_FORWARD[values.get("feed_forward_proj", "relu")]
    with naming(source):
        return T5Config(**found, gated_mlp=gated_mlp, activation=activation, **fields)


def _scales_logits(contents: Mapping[str, Any]) -> bool:
    """Tied T5 scales the decoder output. transformers 5 stores this apart from the tying."""
    tied = contents.get("tie_word_embeddings", True)
    return bool(contents.get("scale_decoder_outputs", tied))
