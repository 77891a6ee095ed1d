"""CodeT5+ of CodeGen's blocks: a shallow encoder and a deep decoder (Wang et al. 2023, 3.3).

A block is parallel: y = x + attention(n(x)) + mlp(n(x)), with one layer norm n. The top layers of
the decoder, one in the released models, add crossattention(n(x), encoder) to the sum. Fused
projections are stored as 4 groups of heads, a group as query, value, key (crossattention: value,
key). Rotary positions are applied in cross-attention too: to queries by their position in the
decoder, to keys by theirs in the encoder.

Written by codet5p_jax, not by the authors of CodeT5+; names of weights and config are theirs. Runs
on transformers 4.46 to 5.
"""

# Types of transformers differ from version to version.
# mypy: ignore-errors
from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache, GenerationMixin, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from .configuration_codet5p import CodeT5pConfig, CodeT5pModuleConfig

GROUPS = 4  # of heads in a fused projection
IGNORED_LABEL = -100

# Outputs and arguments call the key-value cache past_key_values, and cache in late versions of 5.
_FIELDS = {field.name for field in dataclasses.fields(Seq2SeqLMOutput)}
CACHE = "cache" if "cache" in _FIELDS else "past_key_values"


def split_heads(fused, parts, num_heads):
    """Returns the `parts` of a fused projection, each [batch, heads, length, head width]."""
    batch, length, _ = fused.shape
    grouped = fused.view(batch, length, GROUPS, parts, num_heads // GROUPS, -1)
    split = [grouped[:, :, :, part] for part in range(parts)]
    return [part.reshape(batch, length, num_heads, -1).transpose(1, 2) for part in split]


def rotate(states, position_ids, rotary_dim):
    """Returns `states` turned by their positions: GPT-J's rotary embedding, in float32.

    Args:
        states: [batch, heads, length, head width]; the first `rotary_dim` numbers are pairs.
        position_ids: [batch or 1, length].
        rotary_dim: How many numbers of a head are turned; None: all.
    """
    rotary_dim = rotary_dim or states.shape[-1]
    exponents = torch.arange(0, rotary_dim, 2, device=states.device).float() / rotary_dim
    angles = position_ids[:, None, :, None].float() / 10000**exponents
    sin, cos = angles.sin(), angles.cos()
    turned, passed = states[..., :rotary_dim].float(), states[..., rotary_dim:]
    even, odd = turned[..., ::2], turned[..., 1::2]
    turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)
    return torch.cat([turned.to(states.dtype), passed], dim=-1)


def attend(query, key, value, allowed, dropout):
    """Returns the attended values [batch, length, width] and the weights, softmax in float32."""
    scores = query.float() @ key.float().transpose(-1, -2) / math.sqrt(query.shape[-1])
    if allowed is not None:
        # Not -inf: a query that may see nothing, such as padding on the left, must not become NaN.
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    weights = dropout(scores.softmax(dim=-1).to(value.dtype))
    return (weights @ value).transpose(1, 2).flatten(2), weights


class CodeT5pAttention(nn.Module):
    """Self-attention."""

    def __init__(self, config, layer_idx):
        super().__init__()
        self.num_heads, self.rotary_dim = config.n_head, config.rotary_dim
        self.layer_idx = layer_idx
        self.qkv_proj = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.out_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.attn_dropout = nn.Dropout(config.attn_pdrop)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden_states, position_ids, allowed, cache=None):
        """Returns what is added to the residual stream, and the attention weights."""
        query, value, key = split_heads(self.qkv_proj(hidden_states), 3, self.num_heads)
        query = rotate(query, position_ids, self.rotary_dim)
        key = rotate(key, position_ids, self.rotary_dim)
        if cache is not None:
            key, value = cache.self_attention_cache.update(key, value, self.layer_idx)
        attended, weights = attend(query, key, value, allowed, self.attn_dropout)
        return self.resid_dropout(self.out_proj(attended)), weights


class CodeT5pCrossAttention(nn.Module):
    """Attention to the encoder; keys and values are computed once per generation."""

    def __init__(self, config, cache_idx):
        super().__init__()
        self.num_heads, self.rotary_dim = config.n_head, config.rotary_dim
        self.cache_idx = cache_idx
        width = config.cross_attention_hidden_size or config.n_embd
        self.q_attn = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.qkv_proj = nn.Linear(width, 2 * config.n_embd, bias=False)
        self.out_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.attn_dropout = nn.Dropout(config.attn_pdrop)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden_states, position_ids, encoder, cache=None):
        """Returns what is added to the residual stream, and the attention weights."""
        (query,) = split_heads(self.q_attn(hidden_states), 1, self.num_heads)
        query = rotate(query, position_ids, self.rotary_dim)
        key, value = self._key_value(encoder, cache)
        attended, weights = attend(query, key, value, encoder.allowed, self.attn_dropout)
        return self.resid_dropout(self.out_proj(attended)), weights

    def _key_value(self, encoder, cache):
        stored = None if cache is None else cache.cross_attention_cache
        if stored is not None and stored.get_seq_length(self.cache_idx):
            return _stored_key_value(stored, self.cache_idx)
        value, key = split_heads(self.qkv_proj(encoder.hidden_states), 2, self.num_heads)
        key = rotate(key, encoder.position_ids, self.rotary_dim)
        if stored is not None:
            key, value = stored.update(key, value, self.cache_idx)
            cache.is_updated[self.cache_idx] = True
        return key, value


def _stored_key_value(cache, index):
    if hasattr(cache, "layers"):  # from transformers 4.54 on
        return cache.layers[index].keys, cache.layers[index].values
    return cache[index]


@dataclasses.dataclass
class EncoderStates:
    """What cross-attention reads: states, positions, and where they are no padding."""

    hidden_states: torch.Tensor
    position_ids: torch.Tensor
    allowed: torch.Tensor | None


class CodeT5pMLP(nn.Module):
    """The feed-forward block."""

    def __init__(self, config):
        super().__init__()
        inner = config.n_inner or 4 * config.n_embd
        self.fc_in = nn.Linear(config.n_embd, inner)
        self.fc_out = nn.Linear(inner, config.n_embd)
        self.act = ACT2FN[config.activation_function]
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden_states):
        """Returns what is added to the residual stream."""
        return self.dropout(self.fc_out(self.act(self.fc_in(hidden_states))))


class CodeT5pBlock(nn.Module):
    """A parallel block, with cross-attention in the top layers of a decoder."""

    def __init__(self, config, layer_idx):
        super().__init__()
        first_cross_layer = config.n_layer - config.n_cross_attention_layers
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = CodeT5pAttention(config, layer_idx)
        self.mlp = CodeT5pMLP(config)
        if layer_idx >= first_cross_layer:
            self.crossattention = CodeT5pCrossAttention(config, layer_idx - first_cross_layer)

    def forward(self, hidden_states, position_ids, allowed, encoder=None, cache=None):
        """Returns the new states, and the weights of both attentions."""
        normed = self.ln_1(hidden_states)
        attended, weights = self.attn(normed, position_ids, allowed, cache)
        total = hidden_states + attended + self.mlp(normed)
        cross_weights = None
        if encoder is not None and hasattr(self, "crossattention"):
            crossed, cross_weights = self.crossattention(normed, position_ids, encoder, cache)
            total = total + crossed
        return total, weights, cross_weights


class CodeT5pPreTrainedModel(PreTrainedModel):
    """What the three models share."""

    config_class = CodeT5pModuleConfig
    _no_split_modules: ClassVar = ["CodeT5pBlock"]
    _supports_cache_class = True
    # Buffers that old files hold: the causal mask and the number that masked scores had.
    _keys_to_ignore_on_load_unexpected: ClassVar = [r"attn\.(causal_mask|masked_bias)$"]

    def _init_weights(self, module):
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)


class CodeT5pModel(CodeT5pPreTrainedModel):
    """Embedding, blocks and final norm: the encoder, and the decoder without its head."""

    def __init__(self, config):
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(CodeT5pBlock(config, layer_idx=i) for i in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.post_init()

    def get_input_embeddings(self):
        """Returns the token embedding."""
        return self.wte

    def set_input_embeddings(self, new_embeddings):
        """Replaces the token embedding."""
        self.wte = new_embeddings

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        inputs_embeds=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        """Returns the states of every token: causal if the config says `is_decoder`.

        Args:
            input_ids: [batch, length].
            attention_mask: [batch, length], 0 at padding; None: there is none.
            position_ids: [batch, length]; None: 0, 1, ... by column, padding counted.
            inputs_embeds: [batch, length, width], instead of `input_ids`.
            output_attentions: Whether to return the attention weights of every layer.
            output_hidden_states: Whether to return the states before every layer and at the end.
            return_dict: False: a tuple is returned.
        """
        states, all_states, weights, _ = self.run(
            self.wte(input_ids) if inputs_embeds is None else inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
        )
        output = BaseModelOutput(
            last_hidden_state=states,
            hidden_states=all_states if output_hidden_states else None,
            attentions=weights if output_attentions else None,
        )
        return output.to_tuple() if return_dict is False else output

    def run(self, embeds, *, attention_mask, position_ids, encoder=None, cache=None):
        """Returns the final states, those of all layers, and both kinds of attention weights."""
        past = cache.get_seq_length() if cache is not None else 0
        length = embeds.shape[1]
        if position_ids is None:
            position_ids = torch.arange(past, past + length, device=embeds.device)[None]
        allowed = padding_mask(attention_mask)
        if self.config.is_decoder:
            columns = torch.arange(past + length, device=embeds.device)
            causal = (columns[None] <= columns[past:, None])[None, None]
            allowed = causal if allowed is None else causal & allowed
        states = self.drop(embeds)
        all_states, all_weights, all_cross_weights = [], [], []
        for block in self.h:
            all_states.append(states)
            states, weights, cross = block(states, position_ids, allowed, encoder, cache)
            all_weights.append(weights)
            all_cross_weights += [] if cross is None else [cross]
        states = self.ln_f(states)
        return states, (*all_states, states), tuple(all_weights), tuple(all_cross_weights)


def padding_mask(attention_mask):
    """Returns [batch, 1, 1, keys]: which keys may be read; None: all."""
    return None if attention_mask is None else attention_mask[:, None, None, :].bool()


class CodeT5pForCausalLM(CodeT5pPreTrainedModel):
    """The decoder with its head, which has a bias and an embedding of its own."""

    def __init__(self, config):
        super().__init__(config)
        self.transformer = CodeT5pModel(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self):
        """Returns the token embedding."""
        return self.transformer.wte

    def set_input_embeddings(self, new_embeddings):
        """Replaces the token embedding."""
        self.transformer.wte = new_embeddings

    def get_output_embeddings(self):
        """Returns the head."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings):
        """Replaces the head."""
        self.lm_head = new_embeddings

    def forward(self, input_ids, attention_mask=None, position_ids=None, **kwargs):
        """Returns the logits of a decoder alone, without encoder and cache; see CodeT5pModel."""
        states = self.transformer(input_ids, attention_mask, position_ids, **kwargs)[0]
        return self.lm_head(states)


class CodeT5pEncoderDecoderModel(CodeT5pPreTrainedModel, GenerationMixin):
    """CodeT5+ 2B, 6B and 16B."""

    config_class = CodeT5pConfig
    _auto_class = "AutoModelForSeq2SeqLM"  # save_pretrained copies this file along
    base_model_prefix = "codet5p"
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        config.decoder.is_decoder = True
        self.encoder = CodeT5pModel(config.encoder)
        self.decoder = CodeT5pForCausalLM(config.decoder)
        reads_other_width = config.decoder.cross_attention_hidden_size is not None
        if config.encoder.n_embd != config.decoder.n_embd and not reads_other_width:
            self.enc_to_dec_proj = nn.Linear(config.encoder.n_embd, config.decoder.n_embd)
        self.post_init()

    def get_encoder(self, modality=None):
        """Returns the encoder."""
        return self.encoder

    def get_decoder(self):
        """Returns the decoder."""
        return self.decoder

    def get_input_embeddings(self):
        """Returns the token embedding of the encoder."""
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, new_embeddings):
        """Replaces the token embedding of the encoder."""
        self.encoder.set_input_embeddings(new_embeddings)

    def get_output_embeddings(self):
        """Returns the head."""
        return self.decoder.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings):
        """Replaces the head."""
        self.decoder.set_output_embeddings(new_embeddings)

    def prepare_decoder_input_ids_from_labels(self, labels):
        """Returns `labels` one to the right, behind the decoder's start."""
        start = labels.new_full([labels.shape[0], 1], self.config.decoder_start_token_id)
        inputs = torch.cat([start, labels[:, :-1]], dim=1)
        return inputs.masked_fill(inputs == IGNORED_LABEL, self.config.pad_token_id)

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        decoder_input_ids=None,
        decoder_attention_mask=None,
        encoder_outputs=None,
        past_key_values=None,
        cache=None,
        position_ids=None,
        decoder_position_ids=None,
        inputs_embeds=None,
        decoder_inputs_embeds=None,
        labels=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        """Returns the logits at every decoder position, and the loss where `labels` are given.

        Args:
            input_ids: [batch, inputs] of the encoder.
            attention_mask: [batch, inputs], 0 at padding; None: there is none.
            decoder_input_ids: [batch, targets], the start token first; None: from `labels`.
            decoder_attention_mask: [batch, cached + targets], 0 at padding.
            encoder_outputs: Of an earlier call, instead of `input_ids`.
            past_key_values: An EncoderDecoderCache, filled on the way.
            cache: The same, by its name in transformers 5.
            position_ids: [batch, inputs]; None: by column, padding counted, as released.
            decoder_position_ids: [batch, targets]; None: by column.
            inputs_embeds: [batch, inputs, width], instead of `input_ids`.
            decoder_inputs_embeds: [batch, targets, width], instead of `decoder_input_ids`.
            labels: [batch, targets]; -100 is left out of the loss.
            use_cache: Whether to return a cache; None: if the decoder's config says so.
            output_attentions: Whether to return attention weights.
            output_hidden_states: Whether to return the states of every layer.
            return_dict: False: a tuple is returned.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids,
                attention_mask,
                position_ids,
                inputs_embeds,
                output_attentions,
                output_hidden_states,
            )
        elif isinstance(encoder_outputs, tuple):
            encoder_outputs = BaseModelOutput(*encoder_outputs)
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if labels is None:
                raise ValueError("Give decoder_input_ids, decoder_inputs_embeds or labels.")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        if decoder_inputs_embeds is None:
            decoder_inputs_embeds = self.decoder.transformer.wte(decoder_input_ids)

        cache = self._cache(past_key_values if cache is None else cache, use_cache, labels)
        states, all_states, weights, cross_weights = self.decoder.transformer.run(
            decoder_inputs_embeds,
            attention_mask=decoder_attention_mask,
            position_ids=decoder_position_ids,
            encoder=self._encoder_states(encoder_outputs[0], attention_mask, position_ids),
            cache=cache,
        )
        logits = self.decoder.lm_head(states)
        output = Seq2SeqLMOutput(
            loss=None if labels is None else _loss(logits, labels),
            logits=logits,
            **{CACHE: cache},
            decoder_hidden_states=all_states if output_hidden_states else None,
            decoder_attentions=weights if output_attentions else None,
            cross_attentions=cross_weights if output_attentions else None,
            encoder_last_hidden_state=encoder_outputs[0],
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )
        return output.to_tuple() if return_dict is False else output

    def _cache(self, cache, use_cache, labels):
        if cache is not None:
            return cache
        if use_cache is None:
            use_cache = self.config.decoder.use_cache and labels is None and not self.training
        return EncoderDecoderCache(DynamicCache(), DynamicCache()) if use_cache else None

    def _encoder_states(self, states, attention_mask, position_ids):
        if hasattr(self, "enc_to_dec_proj"):
            states = self.enc_to_dec_proj(states)
        if position_ids is None:
            position_ids = torch.arange(states.shape[1], device=states.device)[None]
        return EncoderStates(states, position_ids, padding_mask(attention_mask))

    def prepare_inputs_for_generation(
        self,
        input_ids,
        past_key_values=None,
        cache=None,
        attention_mask=None,
        position_ids=None,
        decoder_attention_mask=None,
        decoder_position_ids=None,
        encoder_outputs=None,
        use_cache=None,
        **kwargs,
    ):
        """Returns the arguments of `forward` for the tokens that the cache does not hold."""
        cache = past_key_values if cache is None else cache
        past = cache.get_seq_length() if cache is not None else 0
        if decoder_position_ids is not None:
            decoder_position_ids = _counted_on(decoder_position_ids, input_ids.shape[1])[:, past:]
        flags = {k: kwargs[k] for k in ("output_attentions", "output_hidden_states") if k in kwargs}
        return {
            "decoder_input_ids": input_ids[:, past:],
            CACHE: cache,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "decoder_attention_mask": decoder_attention_mask,
            "decoder_position_ids": decoder_position_ids,
            "encoder_outputs": encoder_outputs,
            "use_cache": use_cache,
            **flags,
        }


def _counted_on(position_ids, length):
    """Returns [batch, length]: positions of a prompt, and one more for each token behind it."""
    missing = torch.arange(1, length - position_ids.shape[1] + 1, device=position_ids.device)
    return torch.cat([position_ids, position_ids[:, -1:] + missing], dim=1)


def _loss(logits, labels):
    return nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED_LABEL
    )
