import copy

import ml_dtypes
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from codet5p_jax.interop.names import float32_or_bfloat16, from_tensors, left_out, to_tensors
from codet5p_jax.interop.t5_names import t5_names, t5_sizes
from codet5p_jax.interop.tensors import LazyTensor
from codet5p_jax.models.codet5p import abstract_params


def _lazy(name, array):
    return LazyTensor(name=name, shape=array.shape, dtype=array.dtype, read=lambda: array)


@pytest.fixture
def tensors(config, random_params):
    made = to_tensors(random_params(config), t5_names(config), sizes=t5_sizes(config))
    return {tensor.name: tensor.read() for tensor in made}


def _import(tensors, config):
    lazy = [_lazy(*item) for item in tensors.items()]
    return from_tensors(lazy, t5_names(config), sizes=t5_sizes(config))


def test_the_table_names_every_parameter_of_the_model_but_the_heads(any_config):
    params = nn.unbox(abstract_params(any_config))
    held = {row.ours for row in t5_names(any_config).names}
    heads = {"projection/kernel", "projection/bias", "matching_head/kernel", "matching_head/bias"}
    assert held | heads == set(traverse_util.flatten_dict(params, sep="/"))
    both = {row.ours for row in t5_names(any_config, projection=True, matching_head=True).names}
    assert both == held | heads


def test_the_table_states_the_shapes_of_the_model(any_config):
    shapes = traverse_util.flatten_dict(nn.unbox(abstract_params(any_config)), sep="/")
    sizes = t5_sizes(any_config)
    for row in t5_names(any_config).names:
        assert row.our_shape(sizes) == shapes[row.ours].shape, row.ours


def test_heads_are_reported_as_left_out(config, random_params):
    assert left_out(random_params(config), t5_names(config)) == (
        "matching_head/bias",
        "matching_head/kernel",
        "projection/bias",
        "projection/kernel",
    )


def test_kernels_are_transposed_and_layers_taken_apart(config, random_params, tensors):
    kernel = random_params(config)["decoder"]["layers"]["cross_attention"]["query"]["kernel"]
    name = "decoder.block.2.layer.1.EncDecAttention.q.weight"
    np.testing.assert_array_equal(tensors[name], kernel[2].T)


def test_padding_rows_are_trimmed(config, tensors):
    assert tensors["shared.weight"].shape == (config.vocab_size, config.embed_dim)


def test_a_missing_parameter_is_named(config, random_params):
    params = copy.deepcopy(random_params(config))
    del params["encoder"]["final_norm"]
    with pytest.raises(ValueError, match=r"encoder/final_norm/scale: missing, expected.*\[16\]"):
        to_tensors(params, t5_names(config), sizes=t5_sizes(config))


def test_nan_is_refused_both_ways(config, random_params, tensors):
    params = random_params(config)
    params["encoder"]["final_norm"]["scale"][3] = np.nan
    lazy = to_tensors(params, t5_names(config), sizes=t5_sizes(config))
    with pytest.raises(
        ValueError, match=r"encoder.final_layer_norm.weight: 1 NaN or infinite of 16"
    ):
        [tensor.read() for tensor in lazy]
    tensors["shared.weight"] = np.full_like(tensors["shared.weight"], np.inf)
    with pytest.raises(ValueError, match=r"shared.weight: 6,288 NaN or infinite of 6,288"):
        _import(tensors, config)


def test_missing_unexpected_and_misshaped_tensors_are_all_named(config, tensors):
    del tensors["decoder.final_layer_norm.weight"]
    tensors["encoder.block.7.layer.0.layer_norm.weight"] = np.zeros(16, np.float32)
    tensors["shared.weight"] = tensors["shared.weight"][:100]
    with pytest.raises(ValueError, match="do not fit the config") as error:
        _import(tensors, config)
    message = str(error.value)
    assert "decoder.final_layer_norm.weight: missing, expected of shape [16]" in message
    assert "encoder.block.7.layer.0.layer_norm.weight: unexpected, of shape [16]" in message
    assert "shared.weight: shape [100, 16], expected [393, 16]" in message
    assert "Check that weights and config come from the same model." in message


def test_only_the_first_ten_problems_are_listed(config, tensors):
    few = dict(list(tensors.items())[:3])
    with pytest.raises(ValueError, match=rf"and {len(tensors) - 13} more"):
        _import(few, config)


def test_copies_of_the_tied_embedding_are_accepted(config, tensors):
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors["shared.weight"]
    _import(tensors, config)


def test_a_copy_alone_stands_for_the_tied_embedding(config, tensors):
    expected = _import(tensors, config)["token_embedder"]["embedding"]
    tensors["lm_head.weight"] = tensors.pop("shared.weight")
    np.testing.assert_array_equal(_import(tensors, config)["token_embedder"]["embedding"], expected)


def test_a_head_that_should_be_tied_but_differs_is_an_error(config, tensors):
    tensors["lm_head.weight"] = tensors["shared.weight"] + 1
    with pytest.raises(ValueError, match=r"lm_head.weight should be a copy of shared.weight"):
        _import(tensors, config)


def test_the_unused_table_of_old_files_is_ignored(config, tensors):
    name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    tensors[name] = np.zeros([8, 3], np.float32)
    _import(tensors, config)


@pytest.mark.parametrize("number", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_bfloat16_is_refused(config, tensors, number):
    halves = {name: array.astype(ml_dtypes.bfloat16) for name, array in tensors.items()}
    lazy = [_lazy(*item) for item in halves.items()]
    table, sizes = t5_names(config), t5_sizes(config)
    from_tensors(lazy, table, sizes=sizes, dtype=float32_or_bfloat16)
    halves["encoder.final_layer_norm.weight"][3] = number
    with pytest.raises(ValueError, match=r"final_layer_norm.weight: 1 NaN or infinite of 16"):
        from_tensors(lazy, table, sizes=sizes, dtype=float32_or_bfloat16)


def test_half_precision_is_imported_as_float32(config, tensors):
    halves = {name: array.astype(np.float16) for name, array in tensors.items()}
    scale = _import(halves, config)["encoder"]["final_norm"]["scale"]
    assert scale.dtype == np.float32
    np.testing.assert_array_equal(scale, halves["encoder.final_layer_norm.weight"])


def test_every_tensor_that_is_not_finite_is_listed_up_to_ten(config, tensors):
    names = sorted(tensors)[:12]
    for name in names:
        tensors[name] = np.full_like(tensors[name], np.nan)
    with pytest.raises(ValueError, match="Tensors hold NaN or infinite numbers:") as error:
        _import(tensors, config)
    assert sum(f"  {name}: " in str(error.value) for name in names) == 10
    assert "and 2 more" in str(error.value)
    assert "numbers, expected none" in str(error.value)


def test_a_number_that_float32_cannot_hold_is_told(config, tensors):
    name = "encoder.final_layer_norm.weight"
    tensors[name] = np.full(16, 1e300)
    with pytest.raises(ValueError, match=f"{name}: 16 NaN or infinite of 16 numbers"):
        _import(tensors, config)


def test_integers_are_no_weights(config, tensors):
    name = "encoder.final_layer_norm.weight"
    tensors[name] = np.ones(16, np.int8)
    with pytest.raises(ValueError, match=f"{name}: dtype int8, expected a floating-point one"):
        _import(tensors, config)
