"""Language models of transformers as halves: their logits alone, and what a T5 gives."""

import copy
import functools
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from codet5p_jax.interop.halves import read_half
from codet5p_jax.interop.huggingface import export_model, import_model
from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.decoder_only import DecoderOnlyDecoder
from codet5p_jax.models.llama import LlamaConfig
from codet5p_jax.models.masks import decoder_mask
from tests.models.language_models import codegen_config, codegen_oracle, llama_config, llama_oracle

CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # float32 in another order
TOKENS = np.array([[5, 17, 3, 99, 100, 4, 8]], np.int32)
ORACLES = {
    "codegen": (codegen_oracle, codegen_config(heads=4, head_dim=8, rotary_dim=4)),
    "codegen_wide": (codegen_oracle, codegen_config(heads=8, head_dim=6, rotary_dim=6)),
    "llama": (llama_oracle, llama_config()),
    "llama_tied": (llama_oracle, llama_config(tied=True)),
}


@pytest.fixture(scope="module", params=ORACLES.values(), ids=ORACLES.keys())
def oracle(request):
    make, config = request.param
    return make(config)


def _logits(config, params, tokens=TOKENS):
    model = DecoderOnlyDecoder(config)

    @jax.jit
    def run(params):
        hidden, _ = model.apply({"params": params}, jnp.asarray(tokens), mask=decoder_mask())
        return model.apply({"params": params}, hidden, method="logits")

    return np.asarray(run(params))


def _their_logits(oracle):
    import torch

    with torch.no_grad():
        return oracle.torch_model(torch.from_numpy(TOKENS).long()).logits.numpy()


def _save_bin(model, folder):
    """As transformers 4 saved it; 5 writes safetensors alone."""
    import torch

    model.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


SAVE = {
    "safetensors": lambda model, folder: model.save_pretrained(folder),
    "sharded": lambda model, folder: model.save_pretrained(folder, max_shard_size="20KB"),
    "bin": _save_bin,
}


@pytest.mark.parametrize("save", SAVE.values(), ids=SAVE.keys())
def test_logits_of_an_imported_language_model_are_those_of_transformers(oracle, tmp_path, save):
    save(oracle.torch_model, tmp_path)
    half = read_half(tmp_path, "decoder")
    assert half.config == oracle.config
    np.testing.assert_allclose(_logits(half.config, half.params()), _their_logits(oracle), **CLOSE)


def test_layers_that_gain_cross_attention_lie_apart(oracle, tmp_path):
    oracle.torch_model.save_pretrained(tmp_path)
    half = read_half(tmp_path, "decoder")
    whole, split = half.params(), half.params(cross_attention_layers=2)
    joined = jax.tree.map(
        lambda lower, upper: np.concatenate([lower, upper]), split["layers"], split["cross_layers"]
    )
    jax.tree.map(np.testing.assert_array_equal, joined, whole["layers"])
    assert jax.tree.leaves(split["layers"])[0].shape[0] == 1


def test_an_encoder_has_no_head(oracle, tmp_path):
    oracle.torch_model.save_pretrained(tmp_path)
    half = read_half(tmp_path, "encoder")
    whole = read_half(tmp_path, "decoder").params()
    whole.pop("lm_head", None)
    jax.tree.map(np.testing.assert_array_equal, half.params(), whole)


def test_float16_is_read_in_the_dtype_that_is_asked_for(oracle, tmp_path):
    oracle.torch_model.save_pretrained(tmp_path)
    expected = read_half(tmp_path, "decoder").params()
    copy.deepcopy(oracle.torch_model).half().save_pretrained(tmp_path / "half")
    params = read_half(tmp_path / "half", "decoder").params(dtype=ml_dtypes.bfloat16)
    for ours, leaf in zip(jax.tree.leaves(expected), jax.tree.leaves(params), strict=True):
        assert leaf.dtype == ml_dtypes.bfloat16
        np.testing.assert_allclose(leaf.astype("f"), ours, rtol=2**-7, atol=1e-6)


def test_further_rows_of_the_vocabulary_are_the_mean_of_the_others(oracle, tmp_path):
    oracle.torch_model.save_pretrained(tmp_path)
    half = read_half(tmp_path, "decoder")
    params = half.params(vocab_size=131)
    table = params["token_embedder"]["embedding"]
    assert table.shape[0] == 256  # padded
    np.testing.assert_array_equal(table[:128], half.params()["token_embedder"]["embedding"])
    np.testing.assert_allclose(table[128:131], np.tile(table[:128].mean(0), (3, 1)), rtol=1e-5)
    assert not table[131:].any()
    if "lm_head" in params:
        kernel = params["lm_head"]["kernel"]
        mean = kernel[:, :128].mean(1)
        np.testing.assert_allclose(kernel[:, 128:131].T, np.tile(mean, (3, 1)), rtol=1e-5)
        assert not kernel[:, 131:].any()
    if "bias" in params.get("lm_head", {}):
        bias = params["lm_head"]["bias"]
        np.testing.assert_allclose(bias[128:131], np.full(3, bias[:128].mean()), rtol=1e-5)


@pytest.mark.parametrize("variant", ["tied_relu", "untied_gated"])
def test_halves_of_a_t5_are_its_stacks_with_an_embedding_of_their_own(
    tmp_path, random_params, tokenizer, variant
):
    from tests.interop.conftest import VARIANTS

    config = VARIANTS[variant]
    export_model(random_params(config), config, tokenizer=tokenizer, out_dir=tmp_path / "out")
    whole, _ = import_model(tmp_path / "out")
    same = functools.partial(jax.tree.map, np.testing.assert_array_equal)
    encoder, decoder = (read_half(tmp_path / "out", side) for side in ("encoder", "decoder"))
    embedder = {"token_embedder": whole["token_embedder"]}
    same(encoder.params(), whole["encoder"] | embedder)
    head = {"lm_head": whole["lm_head"]} if "lm_head" in whole else {}
    same(decoder.params(), whole["decoder"] | embedder | head)
    assert (encoder.config.num_encoder_layers, encoder.config.num_decoder_layers) == (2, 0)
    assert (decoder.config.num_encoder_layers, decoder.config.num_decoder_layers) == (0, 3)


CODEGEN = {
    "model_type": "codegen",
    "vocab_size": 64,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
    "rotary_dim": 4,
}
LLAMA = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
}

T5 = {
    "model_type": "t5",
    "vocab_size": 64,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 2,
}


def _write(folder, contents):
    (folder / "config.json").write_text(json.dumps(contents))
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder


def test_configs_say_what_transformers_says_by_default(tmp_path):
    codegen = read_half(_write(tmp_path, CODEGEN), "decoder").config
    expected = CodeGenConfig(
        vocab_size=64, embed_dim=16, num_layers=2, num_heads=4, rotary_dim=4, mlp_dim=64
    )
    assert codegen == expected
    scaled = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
    llama = read_half(_write(tmp_path, LLAMA | scaled | {"num_key_value_heads": 2}), "decoder")
    assert llama.config == LlamaConfig(
        vocab_size=64,
        embed_dim=16,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        mlp_dim=24,
        layer_norm_epsilon=1e-6,
        rotary_base=500.0,
    )


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
            r"model_type 'gpt2', .* half of a CodeT5\+ can be: model_type 'codegen' \(CodeGenFor",
        ),
        (LLAMA | {"rope_scaling": {"rope_type": "llama3"}}, "scales rotary positions by 'llama3'"),
        (
            T5 | {"feed_forward_proj": "gated-silu"},
            "'gated-silu'; a T5 that is half of .* relu",
        ),
        (LLAMA | {"attention_bias": True}, "attention_bias=True; supported: False"),
        (LLAMA | {"hidden_size": None}, "config.json lacks hidden_size"),
        (CODEGEN | {"tie_word_embeddings": True}, "tie_word_embeddings=True; supported: False"),
        (
            T5 | {"num_layers": 2, "num_decoder_layers": 0},
            r"config.json: T5Config has neither encoder nor decoder layers",
        ),
        (CODEGEN | {"n_head": 2}, "n_head=2; CodeGen's fused projections need a multiple of 4"),
    ],
)
def test_what_no_half_can_be_is_an_error(tmp_path, contents, message):
    with pytest.raises(ValueError, match=message):
        read_half(_write(tmp_path, contents), "decoder")


def test_missing_tensors_are_named_with_the_folder(tmp_path):
    with pytest.raises(ValueError, match=rf"(?s){tmp_path}: .*transformer.wte.weight: missing"):
        read_half(_write(tmp_path, CODEGEN), "decoder").params()
