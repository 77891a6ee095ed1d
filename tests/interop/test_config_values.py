import math
import re

import pytest

from codet5p_jax.interop import codegen_config, t5_config
from codet5p_jax.interop.formats import detected
from codet5p_jax.interop.huggingface import FORMATS

CODEGEN = {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}
LLAMA = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
T5 = {
    "vocab_size": 99,
    "d_model": 32,
    "num_layers": 2,
    "num_heads": 4,
    "d_kv": 8,
    "d_ff": 64,
    "embed_dim": 8,
}
READERS = {
    "codegen": (codegen_config.codegen_from_huggingface, CODEGEN),
    "llama": (codegen_config.llama_from_huggingface, LLAMA),
    "t5": (t5_config.from_huggingface, T5),
    "embedding": (t5_config.embedding_from_huggingface, T5),
    "bimodal": (t5_config.bimodal_from_huggingface, T5),
}


@pytest.mark.parametrize("family", READERS)
def test_numbers_become_fields_and_a_whole_number_is_one_of_any_kind(family):
    read, contents = READERS[family]
    assert read({**contents, "layer_norm_epsilon": 1, "rms_norm_eps": 1}, "x").vocab_size == 99


@pytest.mark.parametrize("family", READERS)
@pytest.mark.parametrize(("value", "shown"), [("abc", "'abc'"), (True, "True"), (99.0, "99.0")])
def test_a_value_of_another_type_is_named_with_what_is_expected(family, value, shown):
    read, contents = READERS[family]
    message = rf"^config.json has vocab_size={shown}, expected a whole number. Is it damaged\?"
    with pytest.raises(ValueError, match=message):
        read({**contents, "vocab_size": value}, "config.json")


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("codegen", "layer_norm_epsilon", "1e-5"),
        ("codegen", "n_inner", "128"),
        ("llama", "head_dim", 8.0),
        ("llama", "num_key_value_heads", [4]),
        ("t5", "dropout_rate", "0.1"),
    ],
)
def test_so_are_those_that_may_be_missing(family, key, value):
    read, contents = READERS[family]
    with pytest.raises(ValueError, match=rf"has {key}=.*, expected a (whole )?number"):
        read({**contents, key: value}, "config.json")


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("codegen", "layer_norm_epsilon"),
        ("llama", "rms_norm_eps"),
        ("llama", "rope_theta"),
        ("t5", "layer_norm_epsilon"),
        ("t5", "dropout_rate"),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 1e300, 10**99])
def test_a_number_that_is_negative_or_not_finite_is_named(family, key, value):
    read, contents = READERS[family]
    message = (
        rf"^config.json has {key}={re.escape(repr(value))}, expected a number from 0 to 3.4e\+38"
    )
    with pytest.raises(ValueError, match=message):
        read({**contents, key: value}, "config.json")


@pytest.mark.parametrize(
    ("family", "key", "most"),
    [
        ("codegen", "n_layer", "10,000"),
        ("codegen", "n_embd", "1,048,576"),
        ("codegen", "vocab_size", "1,048,576"),
        ("llama", "num_hidden_layers", "10,000"),
        ("llama", "head_dim", "1,048,576"),
        ("t5", "num_layers", "10,000"),
        ("t5", "num_decoder_layers", "10,000"),
    ],
)
def test_a_size_beyond_all_models_is_named_with_the_bound(family, key, most):
    read, contents = READERS[family]
    with pytest.raises(
        ValueError, match=rf"^config.json has .*{key}=10{{9}}, expected at most {most}"
    ):
        read({**contents, key: 10**9}, "config.json")


@pytest.mark.parametrize(
    ("family", "key", "value", "message"),
    [
        ("codegen", "n_layer", -1, r"CodeGenConfig.num_layers is -1; it must be at least 1\."),
        ("codegen", "rotary_dim", 3, "CodeGenConfig.rotary_dim is 3; it must be even"),
        ("codegen", "n_embd", 33, "CodeGenConfig.num_heads is 4, which does not divide"),
        (
            "llama",
            "rope_theta",
            0,
            r"LlamaConfig.rotary_base is 0\.0; it must be at least 1 and fin",
        ),
        ("t5", "d_kv", 0, "T5Config.head_dim is 0"),
    ],
)
def test_impossible_shapes_name_the_file(family, key, value, message):
    read, contents = READERS[family]
    with pytest.raises(ValueError, match=rf"^config.json: {message}"):
        read({**contents, key: value}, "config.json")


def test_an_id_outside_the_vocabulary_names_the_file():
    contents = {"encoder": CODEGEN, "decoder": CODEGEN, "pad_token_id": -1}
    with pytest.raises(ValueError, match=r"^config.json: EncoderDecoderConfig.pad_id is -1, but"):
        codegen_config.from_huggingface(contents, "config.json")


@pytest.mark.parametrize(
    ("change", "base"),
    [
        ({}, 10_000.0),
        ({"rope_theta": 5e5}, 5e5),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, 5e5),
        ({"rope_theta": None, "rope_parameters": {"rope_theta": None}}, 10_000.0),
    ],
)
def test_the_rotary_base_is_where_a_version_of_transformers_writes_it(change, base):
    assert codegen_config.llama_from_huggingface({**LLAMA, **change}, "x").rotary_base == base


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rope_parameters", [1], r"rope_parameters=\[1\], expected an object"),
        ("rope_scaling", "linear", "rope_scaling='linear', expected an object"),
        ("rope_parameters", {"rope_theta": "x"}, "rope_theta='x', expected a number"),
        ("rope_parameters", {"rope_theta": math.nan}, "rope_theta=nan, expected a number from 0"),
        ("rope_parameters", {"rope_theta": -5}, "rope_theta=-5, expected a number from 0"),
    ],
)
def test_rotary_positions_that_are_none_are_named(key, value, message):
    with pytest.raises(ValueError, match=rf"^config.json has {message}"):
        codegen_config.llama_from_huggingface({**LLAMA, key: value}, "config.json")


@pytest.mark.parametrize("architectures", [5, {"CodeGenForCausalLM": 1}])
def test_architectures_that_are_no_list_are_those_of_no_class(architectures):
    contents = {"model_type": "codegen", "architectures": architectures}
    with pytest.raises(ValueError, match=r"^config.json describes .*, architectures .*; supported"):
        detected(contents, FORMATS.values(), source="config.json")


def test_a_half_that_is_no_object_is_missing():
    with pytest.raises(ValueError, match=r"config\.json lacks encoder; is it the"):
        codegen_config.from_huggingface({"encoder": [1], "decoder": CODEGEN}, "config.json")


@pytest.mark.parametrize(
    ("key", "value"), [("eos_token_id", [1, 2]), ("pad_token_id", "z"), ("clm_token_id", 1.5)]
)
def test_ids_of_a_whole_model_are_whole_numbers(key, value):
    contents = {"encoder": CODEGEN, "decoder": CODEGEN, key: value}
    with pytest.raises(ValueError, match=rf"config\.json has {key}=.*, expected a whole number"):
        codegen_config.from_huggingface(contents, "config.json")


def test_so_is_the_number_of_layers_with_cross_attention():
    decoder = {**CODEGEN, "n_cross_attention_layers": "1"}
    with pytest.raises(ValueError, match="n_cross_attention_layers='1', expected a whole number"):
        codegen_config.from_huggingface({"encoder": CODEGEN, "decoder": decoder})
