"""The format of a CodeGen alone: the language model in a decoder, frozen or trained."""

from codet5p_jax.interop import codegen_config
from codet5p_jax.interop.axis_sizes import decoder_only_sizes
from codet5p_jax.interop.codegen_names import codegen_names
from codet5p_jax.interop.formats import Format
from codet5p_jax.interop.names import NameTable, Sizes, float32_or_bfloat16
from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig


def _names(config: EncoderDecoderConfig) -> NameTable:
    return codegen_names("decoder", _decoder(config), config.cross_attention_layers)


def _sizes(config: EncoderDecoderConfig) -> Sizes:
    return {
        "vocab": config.vocab_size,
        "padded_vocab": config.padded_vocab_size,
        **decoder_only_sizes("decoder", _decoder(config), config.cross_attention_layers),
    }


def _decoder(config: EncoderDecoderConfig) -> CodeGenConfig:
    assert isinstance(config.decoder, CodeGenConfig)  # to_huggingface has refused any other
    return config.decoder


def _summary(config: EncoderDecoderConfig) -> dict[str, str]:
    decoder = _decoder(config)
    return {
        "layers": f"{decoder.num_layers}",
        "width, heads x head width, feed-forward": f"{decoder.embed_dim}, {decoder.num_heads} x "
        f"{decoder.head_dim}, {decoder.mlp_dim}",
        "vocabulary": f"{config.vocab_size:,} rows, untied",
    }


CODEGEN = Format(
    name="codegen",
    description="CodeGenForCausalLM: the decoder's language model alone",
    architecture="CodeGenForCausalLM",
    model_type="codegen",
    auto_class="AutoModelForCausalLM",
    does=frozenset({"continue"}),
    holds=EncoderDecoderConfig,
    is_whole=False,
    to_huggingface=codegen_config.language_model_to_huggingface,
    from_huggingface=codegen_config.codegen_from_huggingface,
    names=_names,
    sizes=_sizes,
    dtype=float32_or_bfloat16,
    summary=_summary,
    loading="""
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")
model = AutoModelForCausalLM.from_pretrained("PATH_OF_THIS_FOLDER")
inputs = tokenizer("def mean(values):\\n    return", return_tensors="pt")
outputs = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(outputs[0], skip_special_tokens=True))
```

Encoder and cross-attention of the model that it was taken from are not part of it.
""",
)
