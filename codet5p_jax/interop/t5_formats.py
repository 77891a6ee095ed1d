"""The formats of models of the T5 family: T5 itself, and CodeT5+'s embedding and bimodal models."""

import dataclasses
from collections.abc import Sequence
from functools import partial

from codet5p_jax.instruction_prompt import EXAMPLE, alpaca_prompt
from codet5p_jax.interop import t5_config
from codet5p_jax.interop.formats import Config, Contents, Format
from codet5p_jax.interop.t5_names import t5_names, t5_sizes
from codet5p_jax.interop.tensors import LazyTensor
from codet5p_jax.models.config import T5Config


def _with_own_head(
    tensors: Sequence[LazyTensor], config: Config, contents: Contents
) -> Sequence[LazyTensor]:
    """Transformers 5 ties every T5, and stores no head if the logits are unscaled, either."""
    if config.tie_embeddings or not contents.get("tie_word_embeddings"):
        return tensors
    named = {tensor.name: tensor for tensor in tensors}
    if "shared.weight" in named and "lm_head.weight" not in named:
        head = dataclasses.replace(named["shared.weight"], name="lm_head.weight")
        return [*tensors, head]
    return tensors


def _summary(config: T5Config, *, decoder: bool = True) -> dict[str, str]:
    layers = f"{config.num_encoder_layers} + {config.num_decoder_layers if decoder else 0}"
    heads = f"{config.num_heads} x {config.head_dim}"
    block = t5_config.feed_forward_name(config)
    embeddings = "tied" if config.tie_embeddings else "untied"
    return {
        "layers, encoder + decoder": layers,
        "width, heads x head width, feed-forward": (
            f"{config.embed_dim}, {heads}, {config.mlp_dim} {block}"
        ),
        "vocabulary": f"{config.vocab_size:,}" + (f", {embeddings}" if decoder else ""),
    }


_SEQUENCES = """
A sequence is `<s> ... </s>`, for the encoder and as target alike; the decoder starts from `<pad>`.
Span denoising uses `<extra_id_0>` ... `<extra_id_99>`, causal language modeling puts `<unk>` first
in the encoder.
"""

_CODE_OF_ITS_OWN = """
transformers has no such class: `trust_remote_code=True` runs the two Python files of this folder.
"""

T5 = Format(
    name="t5",
    description="T5ForConditionalGeneration, as codet5p-220m and -770m; no projection, no "
    "matching head",
    architecture="T5ForConditionalGeneration",
    model_type="t5",
    auto_class="AutoModelForSeq2SeqLM",
    does=frozenset({"generate"}),
    to_huggingface=t5_config.to_huggingface,
    from_huggingface=t5_config.from_huggingface,
    names=t5_names,
    sizes=t5_sizes,
    generation_config=t5_config.generation_config,
    completed=_with_own_head,
    summary=_summary,
    loading=f"""
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")
model = AutoModelForSeq2SeqLM.from_pretrained("PATH_OF_THIS_FOLDER")
inputs = tokenizer("def mean(values):\\n    return", return_tensors="pt")
outputs = model.generate(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask)
print(tokenizer.decode(outputs[0], skip_special_tokens=True))
```
{_SEQUENCES}""",
    loading_tuned=f"""
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")
model = AutoModelForSeq2SeqLM.from_pretrained("PATH_OF_THIS_FOLDER")
prompt = \"""{alpaca_prompt(EXAMPLE)}\"""
inputs = tokenizer(prompt, return_tensors="pt")
outputs = model.generate(
    input_ids=inputs.input_ids,
    attention_mask=inputs.attention_mask,
    decoder_input_ids=inputs.input_ids[:, :-1],  # without </s>: the answer follows
    max_new_tokens=128,
)
print(tokenizer.decode(outputs[0], skip_special_tokens=True))
```
{_SEQUENCES}""",
)

EMBEDDING = Format(
    name="embedding",
    description="encoder and projection, as codet5p-110m-embedding",
    architecture="CodeT5pEmbeddingModel",
    model_type="codet5p_embedding",
    auto_class="AutoModel",
    config_class="CodeT5pEmbeddingConfig",
    does=frozenset({"embed"}),
    to_huggingface=t5_config.embedding_to_huggingface,
    from_huggingface=t5_config.embedding_from_huggingface,
    names=partial(t5_names, decoder=False, projection=True),
    sizes=t5_sizes,
    summary=partial(_summary, decoder=False),
    loading=f"""
```python
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER", trust_remote_code=True)
model = AutoModel.from_pretrained("PATH_OF_THIS_FOLDER", trust_remote_code=True)
inputs = tokenizer(["def mean(values):", "Returns the mean."], padding=True, return_tensors="pt")
embeddings = model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask)
print(embeddings @ embeddings.T)  # of norm 1: their products are similarities
```
{_CODE_OF_ITS_OWN}
A sequence is `<s> ... </s>`, text and code alike.
""",
)

BIMODAL = Format(
    name="bimodal",
    description="T5, projection and matching head, as codet5p-220m-bimodal",
    architecture="CodeT5pBimodalModel",
    model_type="codet5p_bimodal",
    auto_class="AutoModel",
    config_class="CodeT5pBimodalConfig",
    further_auto_classes=("AutoModelForSeq2SeqLM",),
    does=frozenset({"generate", "embed", "match"}),
    to_huggingface=t5_config.bimodal_to_huggingface,
    from_huggingface=t5_config.bimodal_from_huggingface,
    names=partial(t5_names, projection=True, matching_head=True),
    sizes=t5_sizes,
    generation_config=t5_config.generation_config,
    completed=_with_own_head,
    summary=_summary,
    loading=f"""
```python
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER", trust_remote_code=True)
model = AutoModel.from_pretrained("PATH_OF_THIS_FOLDER", trust_remote_code=True)
text = tokenizer("Returns the mean.", return_tensors="pt").input_ids
code = tokenizer("def mean(values):\\n    return sum(values) / len(values)", return_tensors="pt")
similarity = model.embed(text) @ model.embed(code.input_ids).T
belong_together = model.match(text, code.input_ids).softmax(-1)[:, 1]
prompt = tokenizer("[TDEC]", add_special_tokens=False, return_tensors="pt").input_ids
outputs = model.generate(code.input_ids, decoder_input_ids=prompt, max_new_tokens=30)
print(similarity, belong_together, tokenizer.decode(outputs[0], skip_special_tokens=True))
```
{_CODE_OF_ITS_OWN}
`[TDEC]` asks the decoder for text, `[CDEC]` for code; `match` puts `[ENC]` before the code itself.
{_SEQUENCES}""",
)
