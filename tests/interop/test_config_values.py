import pytest

from codet5p_jax.interop import codegen_config, t5_config

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
