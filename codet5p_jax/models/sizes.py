"""The published sizes by name, and two small ones."""

import dataclasses

from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.config_fields import nearest
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig, ModelConfig

_BASE = T5Config(
    vocab_size=32_100,
    embed_dim=768,
    num_encoder_layers=12,
    num_decoder_layers=12,
    num_heads=12,
    head_dim=64,
    mlp_dim=3072,
)


def _codegen(*, embed_dim: int, num_layers: int, num_heads: int, rotary_dim: int) -> CodeGenConfig:
    return CodeGenConfig(
        vocab_size=51_200,
        embed_dim=embed_dim,
        num_layers=num_layers,
        num_heads=num_heads,
        rotary_dim=rotary_dim,
        mlp_dim=4 * embed_dim,
    )


_CODEGEN_350M = _codegen(embed_dim=1024, num_layers=20, num_heads=16, rotary_dim=32)
_DECODERS = {
    "2b": _codegen(embed_dim=2560, num_layers=32, num_heads=32, rotary_dim=64),
    "6b": _codegen(embed_dim=4096, num_layers=33, num_heads=16, rotary_dim=64),
    "16b": _codegen(embed_dim=6144, num_layers=34, num_heads=24, rotary_dim=64),
}

MODELS: dict[str, ModelConfig] = {
    # 400 + 100 sentinels + 3 task tokens; sizes all different, so that no swapped axis fits
    "codet5p_test": T5Config(
        vocab_size=503,
        embed_dim=16,
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_heads=3,
        head_dim=8,
        mlp_dim=32,
        projection_dim=12,
        matching_head=True,
    ),
    "codet5p_quickstart": T5Config(
        vocab_size=4_103,
        embed_dim=128,
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        head_dim=32,
        mlp_dim=512,
        projection_dim=128,
        matching_head=True,
        embedding_stddev=0.1,  # a short run with AdamW cannot move one of 1
        dropout_rate=0.0,  # minutes of training see nothing often enough to overfit
        scan_unroll=2,  # on CPU an unrolled loop runs faster; two layers compile soon
    ),
    "codet5p_110m_embedding": dataclasses.replace(
        _BASE, vocab_size=32_103, num_decoder_layers=0, projection_dim=256
    ),
    "codet5p_220m": _BASE,
    "codet5p_220m_bimodal": dataclasses.replace(
        _BASE, vocab_size=32_103, projection_dim=256, matching_head=True
    ),
    "codet5p_770m": dataclasses.replace(
        _BASE,
        embed_dim=1024,
        num_encoder_layers=24,
        num_decoder_layers=24,
        num_heads=16,
        mlp_dim=4096,
    ),
    **{
        f"codet5p_{size}": EncoderDecoderConfig(encoder=_CODEGEN_350M, decoder=decoder)
        for size, decoder in _DECODERS.items()
    },
}


def model_config(name: str) -> ModelConfig:
    """Returns the config called `name`.

    Raises:
        ValueError: No model has that name.
    """
    if name not in MODELS:
        raise ValueError(
            f"Unknown model {name!r}{nearest(name, MODELS)} "
            f"Known models: {', '.join(sorted(MODELS))}. "
            "To define your own, pass a T5Config instead of a name."
        )
    return MODELS[name]
