"""The released CodeT5+ of two CodeGens: names, config, weights, and transformers' view of them."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from codet5p_jax.decoding.generate import generate
from codet5p_jax.interop import codegen_config
from codet5p_jax.interop.codegen_names import codet5p_names, codet5p_sizes, fused_rows
from codet5p_jax.interop.folders import read_json, read_tensors
from codet5p_jax.interop.huggingface import export_model, import_model
from codet5p_jax.interop.names import from_tensors, to_tensors
from codet5p_jax.interop.tensors import LazyTensor
from codet5p_jax.interop.transformers_model import TransformersModel
from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.codet5p import CodeT5p, abstract_params
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.llama import LlamaConfig
from codet5p_jax.models.sizes import model_config
from tests.interop.conftest import DECODER, ENCODER, ROWS


@pytest.fixture(params=[1, 2, 3])
def codet5p(request, two_codegens, random_params):
    """A config with so many layers of cross-attention, and parameters."""
    config = two_codegens(cross_attention_layers=request.param)
    return config, random_params(config)


def _bits(tree):
    flat = traverse_util.flatten_dict(tree, sep="/")
    return {name: (leaf.dtype.name, leaf.tobytes()) for name, leaf in flat.items()}


def _logits(config, params, inputs, targets):
    apply = jax.jit(CodeT5p(config).apply)
    return np.asarray(apply({"params": params}, jnp.asarray(inputs), jnp.asarray(targets)))


def _export(folder, config, params, codegen_tokenizer, **arguments):
    return export_model(params, config, tokenizer=codegen_tokenizer, out_dir=folder, **arguments)


def _lazy(tensors):
    return [
        LazyTensor(name=name, shape=array.shape, dtype=array.dtype, read=lambda array=array: array)
        for name, array in tensors.items()
    ]


def test_the_table_names_every_parameter_of_the_model(codet5p):
    config, _ = codet5p
    shapes = traverse_util.flatten_dict(nn.unbox(abstract_params(config)), sep="/")
    sizes = codet5p_sizes(config)
    named = {row.ours: row.our_shape(sizes) for row in codet5p_names(config).names}
    assert named == {name: leaf.shape for name, leaf in shapes.items()}


def test_names_and_shapes_are_those_of_the_released_files(codet5p, tmp_path, codegen_tokenizer):
    naive = pytest.importorskip("tests.models.naive_codet5p")
    config, params = codet5p
    expected = naive.random_weights(
        vocab=ROWS,
        encoder=(2, 32, 128),
        decoder=(3, 64, 40),
        crossing=config.cross_attention_layers,
    )
    _export(tmp_path / "out", config, params, codegen_tokenizer)
    written = {tensor.name: tensor.shape for tensor in read_tensors(tmp_path / "out")}
    assert written == {name: tuple(tensor.shape) for name, tensor in expected.items()}


def test_logits_of_an_import_are_those_of_a_naive_model_of_the_released_layout(two_codegens):
    naive = pytest.importorskip("tests.models.naive_codet5p")
    config = two_codegens(cross_attention_layers=2)
    weights = naive.random_weights(
        vocab=ROWS, encoder=(2, 32, 128), decoder=(3, 64, 40), crossing=2
    )
    tensors = {name: t.detach().numpy().astype(np.float32) for name, t in weights.items()}
    params = from_tensors(_lazy(tensors), codet5p_names(config), sizes=codet5p_sizes(config))
    source, target = [7, 40, 41, 42, 43], [5, 70, 71, 72]
    expected = naive.logits(weights, source, target, heads=(4, 8), rotary=(4, 6))
    ours = _logits(config, params, np.array([source]), np.array([target]))
    np.testing.assert_allclose(ours[0], expected.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_import_of_an_export_is_the_model_bit_for_bit(codet5p, tmp_path, codegen_tokenizer):
    config, params = codet5p
    result = _export(tmp_path / "out", config, params, codegen_tokenizer)
    imported, again = import_model(tmp_path / "out")
    assert again == config
    assert _bits(imported) == _bits(params)
    assert result.format == "codet5p" and result.left_out == ()
    assert result.parameters == config.num_parameters()
    files = {path.name for path in (tmp_path / "out").glob("*.py")}
    assert files == {"configuration_codet5p.py", "modeling_codet5p.py"}


def test_a_frozen_decoder_stays_bfloat16(tmp_path, two_codegens, random_params, codegen_tokenizer):
    config = two_codegens()
    params = random_params(config)
    params["decoder"] = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), params["decoder"])
    _export(tmp_path / "out", config, params, codegen_tokenizer, max_shard_bytes=200_000)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2
    assert _bits(import_model(tmp_path / "out")[0]) == _bits(params)


def test_half_precision_of_the_released_files_is_imported_as_float32(two_codegens, random_params):
    config = two_codegens()
    table, sizes = codet5p_names(config), codet5p_sizes(config)
    made = to_tensors(random_params(config), table, sizes=sizes)
    halves = {tensor.name: tensor.read().astype(np.float16) for tensor in made}
    params = from_tensors(_lazy(halves), table, sizes=sizes)
    name = "decoder.lm_head.bias"
    np.testing.assert_array_equal(params["decoder"]["lm_head"]["bias"], halves[name])
    assert params["decoder"]["lm_head"]["bias"].dtype == np.float32


@pytest.mark.parametrize("buffer", ["causal_mask", "masked_bias", "bias"])
def test_buffers_of_old_files_are_ignored(two_codegens, random_params, buffer):
    config = two_codegens()
    table, sizes = codet5p_names(config), codet5p_sizes(config)
    tensors = {t.name: t.read() for t in to_tensors(random_params(config), table, sizes=sizes)}
    tensors[f"decoder.transformer.h.1.attn.{buffer}"] = np.zeros([1, 1, 8, 8], np.uint8)
    from_tensors(_lazy(tensors), table, sizes=sizes)
    tensors["decoder.transformer.h.1.attn.rotary"] = np.zeros([3], np.float32)
    with pytest.raises(ValueError, match=r"h.1.attn.rotary: unexpected, of shape \[3\]"):
        from_tensors(_lazy(tensors), table, sizes=sizes)


def test_rows_of_a_fused_projection_by_hand():
    config = CodeGenConfig(
        vocab_size=8, embed_dim=16, num_layers=1, num_heads=4, rotary_dim=4, mlp_dim=8
    )
    # 4 groups of one head of 4 numbers; a group is query, value, key. All numbers turn in pairs.
    query = fused_rows(0, 3, config, turned=True)
    value = fused_rows(1, 3, config, turned=False)
    assert query.tolist() == [0, 2, 1, 3, 12, 14, 13, 15, 24, 26, 25, 27, 36, 38, 37, 39]
    assert value.tolist() == [4, 5, 6, 7, 16, 17, 18, 19, 28, 29, 30, 31, 40, 41, 42, 43]


def test_transformers_computes_the_same_logits_and_writes_the_same_tokens(
    codet5p, tmp_path, codegen_tokenizer
):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    config, params = codet5p
    _export(tmp_path / "out", config, params, codegen_tokenizer)
    theirs = TransformersModel(tmp_path / "out")
    assert theirs.problems == []
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 250, [3, 9]).astype(np.int32)
    inputs[1, 5:] = inputs[2, 2:] = codegen_tokenizer.pad_id
    targets = np.concatenate([np.full([3, 1], codegen_tokenizer.start_id), inputs[:, :6]], axis=1)
    ours = _logits(config, params, inputs, targets)
    difference = np.abs(ours - theirs.logits(inputs, targets)).max()
    assert difference < 1e-4 * np.abs(ours).max()
    generated = generate(CodeT5p(config), params, inputs, max_length=12)
    rows = zip(generated.tokens.tolist(), generated.lengths.tolist(), strict=True)
    assert [row[:n] for row, n in rows] == theirs.greedy(inputs, max_length=12)


# Keys of config.json of Salesforce/codet5p-2b that say what the model computes.
RELEASED = {
    "architectures": ["CodeT5pEncoderDecoderModel"],
    "auto_map": {
        "AutoConfig": "configuration_codet5p.CodeT5pConfig",
        "AutoModelForSeq2SeqLM": "modeling_codet5p.CodeT5pEncoderDecoderModel",
        "AutoModel": "modeling_codet5p.CodeT5pEncoderDecoderModel",  # ours alone
    },
    "decoder_start_token_id": 50256,
    "is_encoder_decoder": True,
    "model_type": "codet5p",
}
RELEASED_SIDE = {
    "activation_function": "gelu_new",
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "codet5p_module",
    "n_ctx": 2048,
    "n_inner": None,
    "n_positions": 2048,
    "resid_pdrop": 0.0,
    "scale_attn_weights": True,
    "vocab_size": 51200,
}


def test_config_json_says_what_the_released_one_says():
    from codet5p_jax.interop.huggingface import FORMATS

    contents = FORMATS["codet5p"].config_json(model_config("codet5p_2b"))
    assert contents.items() >= RELEASED.items()
    sizes = {"n_embd": 1024, "n_head": 16, "n_layer": 20, "rotary_dim": 32}
    assert contents["encoder"].items() >= {**RELEASED_SIDE, **sizes}.items()
    sizes = {"n_embd": 2560, "n_head": 32, "n_layer": 32, "rotary_dim": 64}
    crossing = {"is_decoder": True, "add_cross_attention": True}
    assert contents["decoder"].items() >= {**RELEASED_SIDE, **sizes, **crossing}.items()


@pytest.mark.parametrize("name", ["codet5p_2b", "codet5p_6b", "codet5p_16b"])
def test_the_released_config_is_ours_of_that_size(name):
    config = model_config(name)
    contents = codegen_config.to_huggingface(config)
    contents |= {"pad_token_id": 50256}  # as released: the id that ends a sequence
    for ours in ("clm_token_id", "match_token_id", "eos_token_id"):
        del contents[ours]
    del contents["decoder"]["n_cross_attention_layers"]
    assert codegen_config.from_huggingface(contents) == config


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (
            LlamaConfig(vocab_size=ROWS, embed_dim=32, num_layers=2, num_heads=4, mlp_dim=64),
            "The decoder is a Llama; the formats codet5p and codegen hold CodeGens alone",
        ),
        (
            T5Config(
                vocab_size=ROWS,
                embed_dim=32,
                num_encoder_layers=0,
                num_decoder_layers=2,
                num_heads=4,
                head_dim=8,
                mlp_dim=64,
            ),
            "The decoder is a T5; the formats codet5p and codegen hold",
        ),
        (
            dataclasses.replace(DECODER, rotary_base=5e5),
            "decoder has rotary_base 500000.0; CodeGen",
        ),
        (dataclasses.replace(DECODER, tie_embeddings=True), "decoder has tie_embeddings True"),
        (
            dataclasses.replace(DECODER, num_heads=2, num_kv_heads=2, head_dim=32),
            "decoder has 2 heads; .* a multiple of 4",
        ),
    ],
)
def test_what_the_format_cannot_hold_is_an_error(
    two_codegens, tmp_path, codegen_tokenizer, decoder, message
):
    with pytest.raises(ValueError, match=message):
        _export(tmp_path / "out", two_codegens(decoder=decoder), {}, codegen_tokenizer)
    assert not (tmp_path / "out").exists()


def test_a_format_of_another_family_is_an_error(two_codegens, tmp_path, codegen_tokenizer):
    message = "format bimodal holds T5, projection and .* that EncoderDecoderConfig describes"
    with pytest.raises(ValueError, match=message):
        _export(tmp_path / "out", two_codegens(), {}, codegen_tokenizer, format="bimodal")


def test_a_tokenizer_with_other_ids_is_an_error(two_codegens, tmp_path, codegen_tokenizer):
    with pytest.raises(ValueError, match=r"another tokenizer: it has pad_id 3, not \d+ as the"):
        _export(tmp_path / "out", two_codegens(pad_id=3), {}, codegen_tokenizer)


def test_a_tokenizer_with_more_ids_than_rows_is_an_error(two_codegens, tmp_path, codegen_tokenizer):
    few = {"pad_id": 1, "start_id": 2, "eos_id": 2, "clm_id": 3, "match_id": 4}
    halves = [dataclasses.replace(half, vocab_size=128) for half in (ENCODER, DECODER)]
    with pytest.raises(ValueError, match=r"sentinels and task tokens counted, but .* 128 rows"):
        _export(tmp_path / "out", two_codegens(*halves, **few), {}, codegen_tokenizer)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("decoder",), None, "config.json lacks decoder; is it the config of a whole model"),
        (("encoder", "n_layer"), None, "encoder of .*config.json lacks n_layer"),
        (
            ("decoder", "activation_function"),
            "relu",
            "activation_function='relu'; supported: 'gelu",
        ),
        (("decoder", "n_head"), 2, "n_head=2; CodeGen's fused projections need a multiple of 4"),
        (("decoder", "cross_attention_hidden_size"), 32, "cross_attention_hidden_size=32"),
    ],
)
def test_an_unsupported_config_is_an_error(
    two_codegens, random_params, tmp_path, codegen_tokenizer, path, value, message
):
    config = two_codegens()
    _export(tmp_path / "out", config, random_params(config), codegen_tokenizer)
    contents = read_json(tmp_path / "out" / "config.json")
    *outer, last = path
    inner = contents
    for key in outer:
        inner = inner[key]
    inner[last] = value
    (tmp_path / "out" / "config.json").write_text(json.dumps(contents))
    with pytest.raises(ValueError, match=message):
        import_model(tmp_path / "out")


def test_a_missing_cross_attention_is_named(
    two_codegens, random_params, tmp_path, codegen_tokenizer
):
    config = two_codegens()
    _export(tmp_path / "out", config, random_params(config), codegen_tokenizer)
    contents = read_json(tmp_path / "out" / "config.json")
    contents["decoder"]["n_cross_attention_layers"] = 2
    shutil.copytree(tmp_path / "out", tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(json.dumps(contents))
    with pytest.raises(ValueError, match=r"transformer.h.1.crossattention.q_attn.weight: missing"):
        import_model(tmp_path / "other")
