"""CodeT5+ after both stages of pretraining: T5, a projection, a head that matches (3.2).

Written by codet5p_jax, not by the authors of CodeT5+; names of weights and config are theirs. Runs
on transformers 4.46 to 5.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import T5ForConditionalGeneration

from .configuration_codet5p_bimodal import CodeT5pBimodalConfig


class CodeT5pBimodalModel(T5ForConditionalGeneration):
    """CodeT5+ 220m-bimodal: generates as T5 does; `embed` and `match` retrieve."""

    config_class = CodeT5pBimodalConfig
    _auto_class = "AutoModel"  # save_pretrained copies this file along

    def __init__(self, config):
        super().__init__(config)
        self.proj = nn.Linear(config.d_model, config.embed_dim)
        self.itm_head = nn.Linear(config.d_model, 2)
        self.post_init()

    def embed(self, input_ids, attention_mask=None):
        """Returns one vector of norm 1 per row, [batch, embed_dim], read at its first token, `<s>`.

        Args:
            input_ids: [batch, length], `<s> ... </s>`, text or code.
            attention_mask: [batch, length], 0 at padding; None: there is none.
        """
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        return nn.functional.normalize(self.proj(states[:, 0]), dim=-1)

    def match(self, input_ids, code_ids, attention_mask=None, code_attention_mask=None):
        """Returns [batch, 2]: scores of "no" and "yes", text and code belong together.

        Args:
            input_ids: [batch, text], `<s> ... </s>`.
            code_ids: [batch, code], `<s> ... </s>`; the decoder reads it with `[ENC]`, the third
                id from the end of the vocabulary, instead of `<s>`.
            attention_mask: [batch, text], 0 at padding; None: there is none.
            code_attention_mask: [batch, code], the same.
        """
        code_ids = code_ids.clone()
        code_ids[:, 0] = self.config.vocab_size - 3
        states = self.decoder(
            input_ids=code_ids,
            attention_mask=code_attention_mask,
            encoder_hidden_states=self.encoder(input_ids=input_ids, attention_mask=attention_mask)[
                0
            ],
            encoder_attention_mask=attention_mask,
            use_cache=False,
        )[0]
        columns = torch.arange(code_ids.shape[1], device=code_ids.device)
        ends = (columns * (code_ids == self.config.eos_token_id)).argmax(dim=1)  # the last `</s>`
        return self.itm_head(states[torch.arange(len(ends), device=states.device), ends])
