"""Config of the CodeT5+ that embeds, matches and translates text and code."""

from __future__ import annotations

from transformers import T5Config


class CodeT5pBimodalConfig(T5Config):
    """Config of T5, a projection to `embed_dim` numbers and a head that matches."""

    model_type = "codet5p_bimodal"

    def __init__(self, embed_dim=256, eos_token_id=2, **kwargs):
        super().__init__(eos_token_id=eos_token_id, **kwargs)
        self.embed_dim = embed_dim
