"""The format of the released CodeT5+ 2B, 6B and 16B, whose halves are CodeGens."""

from codet5p_jax.instruction_prompt import EXAMPLE, alpaca_prompt
from codet5p_jax.interop import codegen_config
from codet5p_jax.interop.codegen_names import codet5p_names, codet5p_sizes
from codet5p_jax.interop.formats import Format
from codet5p_jax.interop.names import float32_or_bfloat16
from codet5p_jax.models.decoder_only_config import DecoderOnlyConfig
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig, HalfConfig


def _summary(config: EncoderDecoderConfig) -> dict[str, str]:
    return {
        "layers, encoder + decoder": f"{config.num_encoder_layers} + {config.num_decoder_layers}",
        "encoder": _side(config.encoder),
        "decoder": f"{_side(config.decoder)}; cross-attention in the top "
        f"{config.cross_attention_layers}",
        "vocabulary": f"{config.vocab_size:,} rows, untied",
        "padding, decoder start, end": f"{config.pad_id}, {config.start_id}, {config.eos_id}",
    }


def _side(half: HalfConfig) -> str:
    assert isinstance(half, DecoderOnlyConfig)  # to_huggingface has refused any other
    return (
        f"width {half.embed_dim}, {half.num_heads} x {half.head_dim} "
        f"heads, feed-forward {half.mlp_dim}"
    )


_LOADING = """
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER", trust_remote_code=True)
model = AutoModelForSeq2SeqLM.from_pretrained("PATH_OF_THIS_FOLDER", trust_remote_code=True)
prompt = {prompt}
inputs = tokenizer(prompt, return_tensors="pt")
outputs = model.generate(
    input_ids=inputs.input_ids,
    attention_mask=inputs.attention_mask,
    decoder_input_ids=inputs.input_ids,
    max_new_tokens=64,
)
print(tokenizer.decode(outputs[0], skip_special_tokens=True))
```

transformers has no such class: `trust_remote_code=True` runs the two Python files of this folder.

The decoder is a language model that reads from left to right: the prompt goes to the encoder and in
front of the decoder, as above. Padding has an id of its own and is masked (`attention_mask`).
"""

CODET5P = Format(
    name="codet5p",
    description="CodeT5pEncoderDecoderModel, both halves CodeGen's, as codet5p-2b, -6b and -16b",
    architecture="CodeT5pEncoderDecoderModel",
    model_type="codet5p",
    auto_class="AutoModelForSeq2SeqLM",
    config_class="CodeT5pConfig",
    further_auto_classes=("AutoModel",),
    does=frozenset({"generate"}),
    holds=EncoderDecoderConfig,
    to_huggingface=codegen_config.to_huggingface,
    from_huggingface=codegen_config.from_huggingface,
    names=codet5p_names,
    sizes=codet5p_sizes,
    generation_config=codegen_config.generation_config,
    dtype=float32_or_bfloat16,
    summary=_summary,
    loading=_LOADING.format(prompt='"def mean(values):\\n    return"'),
    loading_tuned=_LOADING.format(prompt=f'"""{alpaca_prompt(EXAMPLE)}"""'),
)
