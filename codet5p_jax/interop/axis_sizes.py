"""Sizes of the axes that the names of decoder-only language models speak of."""

from codet5p_jax.interop.names import Sizes
from codet5p_jax.models.decoder_only_config import DecoderOnlyConfig


def decoder_only_sizes(
    side: str, config: DecoderOnlyConfig, cross_attention_layers: int = 0
) -> Sizes:
    """Returns the sizes of one side's axes, the vocabulary's not among them."""
    return {
        f"{side}_embed": config.embed_dim,
        f"{side}_joined_q": config.num_heads * config.head_dim,
        f"{side}_joined_kv": config.num_kv_heads * config.head_dim,
        f"{side}_mlp": config.mlp_dim,
        f"{side}_layers": config.num_layers - cross_attention_layers,
        f"{side}_cross_layers": cross_attention_layers,
    }
