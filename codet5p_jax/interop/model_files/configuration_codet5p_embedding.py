"""Config of the CodeT5+ that embeds text and code."""

from __future__ import annotations

from transformers import T5Config


class CodeT5pEmbeddingConfig(T5Config):
    """Config of T5's encoder and a projection to `embed_dim` numbers."""

    model_type = "codet5p_embedding"

    def __init__(self, embed_dim=256, is_encoder_decoder=False, eos_token_id=2, **kwargs):
        super().__init__(is_encoder_decoder=is_encoder_decoder, eos_token_id=eos_token_id, **kwargs)
        self.embed_dim = embed_dim
