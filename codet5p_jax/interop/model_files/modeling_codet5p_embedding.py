"""CodeT5+ that embeds text and code: T5's encoder and a projection (Wang et al. 2023, 3.2).

Written by codet5p_jax, not by the authors of CodeT5+; names of weights and config are theirs. Runs
on transformers 4.46 to 5.
"""

from __future__ import annotations

from torch import nn
from transformers import T5EncoderModel

from .configuration_codet5p_embedding import CodeT5pEmbeddingConfig


class CodeT5pEmbeddingModel(T5EncoderModel):
    """CodeT5+ 110m-embedding."""

    config_class = CodeT5pEmbeddingConfig
    _auto_class = "AutoModel"  # save_pretrained copies this file along

    def __init__(self, config):
        super().__init__(config)
        self.proj = nn.Linear(config.d_model, config.embed_dim)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, **kwargs):
        """Returns one vector of norm 1 per row, [batch, embed_dim], read at its first token, `<s>`.

        Args:
            input_ids: [batch, length], `<s> ... </s>`.
            attention_mask: [batch, length], 0 at padding; None: there is none.
            inputs_embeds: [batch, length, width], instead of `input_ids`.
            **kwargs: Of T5's encoder.
        """
        states = self.encoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )[0]
        return nn.functional.normalize(self.proj(states[:, 0]), dim=-1)
