"""Config of CodeT5+ whose encoder and decoder are made of CodeGen's blocks (2B, 6B, 16B)."""

# Types of transformers differ from version to version.
# mypy: ignore-errors
from __future__ import annotations

from transformers import PretrainedConfig


class CodeT5pModuleConfig(PretrainedConfig):
    """Config of one side. The keys are those of the released checkpoints.

    `n_cross_attention_layers` is the one key that they lack: how many of the decoder's top layers
    read the encoder. It is 1 where `add_cross_attention` is set, as released.
    """

    model_type = "codet5p_module"
    attribute_map = {  # noqa: RUF012
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    def __init__(
        self,
        vocab_size=51200,
        n_positions=2048,
        n_ctx=2048,
        n_embd=1024,
        n_layer=20,
        n_head=16,
        rotary_dim=32,
        n_inner=None,
        activation_function="gelu_new",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        layer_norm_epsilon=1e-5,
        initializer_range=0.02,
        scale_attn_weights=True,
        use_cache=True,
        is_decoder=False,
        add_cross_attention=False,
        cross_attention_hidden_size=None,
        n_cross_attention_layers=None,
        bos_token_id=50256,
        eos_token_id=50256,
        tie_word_embeddings=False,
        **kwargs,
    ):
        if n_embd % n_head or n_head % 4:
            raise ValueError(
                f"n_embd={n_embd} must be a multiple of n_head={n_head}, and n_head of 4: the "
                "fused projections are stored in 4 groups of heads."
            )
        self.vocab_size = vocab_size
        self.n_positions = n_positions
        self.n_ctx = n_ctx
        self.n_embd = n_embd
        self.n_layer = n_layer
        self.n_head = n_head
        self.rotary_dim = rotary_dim
        self.n_inner = n_inner
        self.activation_function = activation_function
        self.resid_pdrop = resid_pdrop
        self.embd_pdrop = embd_pdrop
        self.attn_pdrop = attn_pdrop
        self.layer_norm_epsilon = layer_norm_epsilon
        self.initializer_range = initializer_range
        self.scale_attn_weights = scale_attn_weights
        if n_cross_attention_layers is None:
            n_cross_attention_layers = int(add_cross_attention)
        super().__init__(
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            tie_word_embeddings=tie_word_embeddings,
            **kwargs,
        )
        # After the base class, which has fields of some of these names in some versions.
        self.use_cache = use_cache
        self.is_decoder = is_decoder
        self.add_cross_attention = add_cross_attention
        self.cross_attention_hidden_size = cross_attention_hidden_size
        self.n_cross_attention_layers = n_cross_attention_layers
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.tie_word_embeddings = tie_word_embeddings


class CodeT5pConfig(PretrainedConfig):
    """Config of both sides: `encoder` and `decoder` are dicts or CodeT5pModuleConfig."""

    model_type = "codet5p"
    is_composition = True
    sub_configs = {"encoder": CodeT5pModuleConfig, "decoder": CodeT5pModuleConfig}  # noqa: RUF012

    def __init__(
        self,
        encoder=None,
        decoder=None,
        pad_token_id=50256,
        bos_token_id=50256,
        eos_token_id=50256,
        decoder_start_token_id=50256,
        is_encoder_decoder=True,
        tie_word_embeddings=False,
        **kwargs,
    ):
        if decoder is None:
            decoder = {"is_decoder": True, "add_cross_attention": True}
        self.encoder = _module_config(encoder or {})
        self.decoder = _module_config(decoder)
        super().__init__(
            pad_token_id=pad_token_id,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            decoder_start_token_id=decoder_start_token_id,
            is_encoder_decoder=is_encoder_decoder,
            tie_word_embeddings=tie_word_embeddings,
            **kwargs,
        )
        self.pad_token_id = pad_token_id
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.decoder_start_token_id = decoder_start_token_id
        self.tie_word_embeddings = tie_word_embeddings


def _module_config(values):
    if isinstance(values, PretrainedConfig):
        return values
    return CodeT5pModuleConfig(**{k: v for k, v in values.items() if k != "model_type"})
