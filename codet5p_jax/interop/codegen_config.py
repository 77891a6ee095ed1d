"""Config.json of CodeGen, of Llama, and of the released CodeT5+ of two CodeGens; ours and back."""

from collections.abc import Mapping
from typing import Any

from codet5p_jax.interop.codegen_names import GROUPS
from codet5p_jax.interop.config_values import check_supported, copied_values, naming
from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig, HalfConfig
from codet5p_jax.models.llama import LlamaConfig

Contents = Mapping[str, Any]

CONTEXT = 2048  # positions of CodeGen; rotary ones need no table, so ours are not bound to it
_CODEGEN = {  # our field -> theirs, where a value is copied
    "vocab_size": "vocab_size",
    "embed_dim": "n_embd",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "rotary_dim": "rotary_dim",
    "layer_norm_epsilon": "layer_norm_epsilon",
}
_LLAMA = {
    "vocab_size": "vocab_size",
    "embed_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "layer_norm_epsilon": "rms_norm_eps",
    "rotary_base": "rope_theta",
}
_LLAMA_OPTIONAL = {"num_kv_heads": "num_key_value_heads", "head_dim": "head_dim"}
_WHOLE = {
    "cross_attention_layers": "n_cross_attention_layers",
    "pad_id": "pad_token_id",
    "start_id": "decoder_start_token_id",
    "eos_id": "eos_token_id",
    "clm_id": "clm_token_id",
    "match_id": "match_token_id",
}
_ROTARY_BASE = 10_000.0  # of CodeGen


def codegen_from_huggingface(contents: Contents, source: str) -> CodeGenConfig:
    """Returns our config of a CodeGen, alone or a side of CodeT5+.

    Args:
        contents: The parsed file, or its part on that side.
        source: What errors call it.

    Raises:
        ValueError: A value is missing, or one is not supported here.
    """
    values = {"layer_norm_epsilon": 1e-5, **contents}
    copied = copied_values(values, _CODEGEN, config=CodeGenConfig, source=source)
    supported = {
        "activation_function": ("gelu_new",),
        "tie_word_embeddings": (False,),
        "scale_attn_weights": (True,),
    }
    check_supported(contents, supported, source=source)
    if copied["num_heads"] % GROUPS:
        raise ValueError(
            f"{source} has n_head={copied['num_heads']}; CodeGen's fused projections need a "
            f"multiple of {GROUPS}."
        )
    inner = {"mlp_dim": "n_inner"} if contents.get("n_inner") else {}
    given = copied_values(contents, inner, config=CodeGenConfig, source=source)
    with naming(source):
        return CodeGenConfig(**{"mlp_dim": 4 * copied["embed_dim"], **copied, **given})


def llama_from_huggingface(contents: Contents, source: str) -> LlamaConfig:
    """Returns our config of a Llama; see `codegen_from_huggingface`."""
    rotary = _object(contents, "rope_parameters", source)  # transformers 5
    scaling = _object(contents, "rope_scaling", source) or rotary
    values = {"rms_norm_eps": 1e-6, "rope_theta": _ROTARY_BASE}
    for given in ({"rope_theta": rotary.get("rope_theta")}, contents):
        values |= {key: value for key, value in given.items() if value is not None}
    copied = copied_values(values, _LLAMA, config=LlamaConfig, source=source)
    supported = {
        "hidden_act": ("silu",),
        "attention_bias": (False,),
        "mlp_bias": (False,),
    }
    check_supported(contents, supported, source=source)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        raise ValueError(
            f"{source} scales rotary positions by {kind!r}; supported: only unscaled ones."
        )
    optional = {ours: key for ours, key in _LLAMA_OPTIONAL.items() if contents.get(key)}
    heads = copied_values(contents, optional, config=LlamaConfig, source=source)
    tied = bool(contents.get("tie_word_embeddings", False))
    with naming(source):
        return LlamaConfig(**copied, **heads, tie_embeddings=tied)


def to_huggingface(config: EncoderDecoderConfig) -> dict[str, Any]:
    """Returns what config.json holds of a CodeT5pEncoderDecoderModel, as of codet5p-2b.

    The released files lack `n_cross_attention_layers`, `clm_token_id` and `match_token_id`.

    Raises:
        ValueError: A half is no CodeGen, or one that the released classes cannot compute.
    """
    encoder, decoder = _codegen("encoder", config.encoder), _codegen("decoder", config.decoder)
    model_type = "codet5p_module"
    ids = {"bos_token_id": config.start_id, "eos_token_id": config.eos_id}
    crossing = {
        "add_cross_attention": True,
        "is_decoder": True,
        "n_cross_attention_layers": config.cross_attention_layers,
    }
    return {
        "encoder": {"model_type": model_type, **_side(encoder), **ids},
        "decoder": {"model_type": model_type, **_side(decoder), **ids, **crossing},
        "is_encoder_decoder": True,
        "tie_word_embeddings": False,
        "pad_token_id": config.pad_id,
        "decoder_start_token_id": config.start_id,
        **ids,
        "clm_token_id": config.clm_id,
        "match_token_id": config.match_id,
    }


def language_model_to_huggingface(config: EncoderDecoderConfig) -> dict[str, Any]:
    """Returns what config.json holds of the decoder's language model, a CodeGenForCausalLM.

    Raises:
        ValueError: The decoder is no CodeGen, or one that the released class cannot compute.
    """
    described = _side(_codegen("decoder", config.decoder))
    ids = {"bos_token_id": config.start_id, "eos_token_id": config.eos_id}
    return {"model_type": "codegen", **described, **ids}


def from_huggingface(contents: Contents, source: str = "config.json") -> EncoderDecoderConfig:
    """Returns our config of a CodeT5+ of two CodeGens.

    The released models pad with the id that also ends a sequence; ours has one of its own, which
    it needs, as it knows padding by its id.

    Args:
        contents: The parsed file.
        source: What errors call it.

    Raises:
        ValueError: A value is missing, or one is not supported here.
    """
    sides = ("encoder", "decoder")
    missing = [side for side in sides if not isinstance(contents.get(side) or None, Mapping)]
    if missing:
        raise ValueError(f"{source} lacks {', '.join(missing)}; is it the config of a whole model?")
    encoder, decoder = (
        codegen_from_huggingface(contents[side], f"{side} of {source}")
        for side in ("encoder", "decoder")
    )
    their_decoder = contents["decoder"]
    crossed_width = their_decoder.get("cross_attention_hidden_size")
    if crossed_width not in (None, decoder.embed_dim):
        raise ValueError(
            f"decoder of {source} has cross_attention_hidden_size={crossed_width}; supported: "
            "none, or its own width (enc_to_dec_proj takes the encoder's output to it)."
        )
    start = contents.get("decoder_start_token_id", EncoderDecoderConfig.start_id)
    eos = contents.get("eos_token_id", their_decoder.get("eos_token_id", start))
    pad = contents.get("pad_token_id")
    crossing = their_decoder.get("n_cross_attention_layers")
    values = {
        "n_cross_attention_layers": 1 if crossing is None else crossing,
        "pad_token_id": EncoderDecoderConfig.pad_id if pad in (None, eos) else pad,
        "decoder_start_token_id": start,
        "eos_token_id": eos,
        "clm_token_id": contents.get("clm_token_id", EncoderDecoderConfig.clm_id),
        "match_token_id": contents.get("match_token_id", EncoderDecoderConfig.match_id),
    }
    copied = copied_values(values, _WHOLE, config=EncoderDecoderConfig, source=source)
    with naming(source):
        return EncoderDecoderConfig(encoder=encoder, decoder=decoder, **copied)


def generation_config(config: EncoderDecoderConfig) -> dict[str, Any]:
    """Returns the contents of generation_config.json: the ids that `generate` needs."""
    return {
        "use_cache": True,
        "pad_token_id": config.pad_id,
        "bos_token_id": config.start_id,
        "eos_token_id": config.eos_id,
        "decoder_start_token_id": config.start_id,
    }


def _object(contents: Contents, key: str, source: str) -> Contents:
    """Returns the JSON object that `contents` have for `key`; an empty one where there is none."""
    value = contents.get(key) or {}
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{source} has {key}={value!r}, expected an object. Is it damaged? Copy it again."
        )
    return value


def _side(config: CodeGenConfig) -> dict[str, Any]:
    return {
        **{theirs: getattr(config, ours) for ours, theirs in _CODEGEN.items()},
        "n_inner": None if config.mlp_dim == 4 * config.embed_dim else config.mlp_dim,
        "n_ctx": CONTEXT,
        "n_positions": CONTEXT,
        "activation_function": "gelu_new",
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "initializer_range": 0.02,
        "scale_attn_weights": True,
        "tie_word_embeddings": False,
        "use_cache": True,
    }


def _codegen(side: str, half: HalfConfig) -> CodeGenConfig:
    """Returns `half`, which is one that the released classes can compute, or raises."""
    if not isinstance(half, CodeGenConfig):
        raise ValueError(
            f"The {side} is a {type(half).__name__.removesuffix('Config')}; the formats "
            "codet5p and codegen hold CodeGens alone, as in the released 2B, 6B and 16B. "
            "Models of other halves have no format in transformers: keep the MODEL_DIR."
        )
    unlike = {
        "num_kv_heads": half.num_heads,
        "head_dim": half.embed_dim // half.num_heads,
        "rotary_base": _ROTARY_BASE,
        "tie_embeddings": False,
    }
    for name, expected in unlike.items():
        if getattr(half, name) != expected:
            raise ValueError(
                f"The {side} has {name} {getattr(half, name)}; CodeGen's classes compute with "
                f"{expected} alone, so there is no format for it."
            )
    if half.num_heads % GROUPS:
        raise ValueError(
            f"The {side} has {half.num_heads} heads; the formats codet5p and codegen store fused "
            f"projections in {GROUPS} groups of heads, so they must be a multiple of {GROUPS}."
        )
    return half
