"""Tests of codet5p_jax.training.parameter_rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.training.parameter_rules import merge_params, parameter_factors

PARAMS = {
    "encoder": {"layers": {"kernel": jnp.ones([2, 3])}, "norm": {"scale": jnp.ones([3])}},
    "decoder": {"layers": {"kernel": jnp.full([3], 1 / 3)}},
}


def test_the_first_rule_that_matches_the_whole_path_wins():
    rules = [("encoder/norm/.*", None), ("encoder/.*", 0.5), (".*", 2.0)]
    assert parameter_factors(rules, PARAMS).by_path == {
        "encoder/layers/kernel": 0.5,
        "encoder/norm/scale": None,
        "decoder/layers/kernel": 2.0,
    }


def test_part_of_a_path_is_no_match():
    with pytest.raises(ValueError, match=r"'encoder' of PARAMETER_RULES matches no parameter"):
        parameter_factors([("encoder", None), (".*", 1.0)], PARAMS)


def test_trainable_and_frozen_parameters_are_taken_apart_and_put_together():
    factors = parameter_factors([("encoder/.*", None), (".*", 1.0)], PARAMS)
    trainable, frozen = factors.split(PARAMS)
    assert list(trainable) == ["decoder"] and list(frozen) == ["encoder"]
    assert jax.tree.structure(merge_params(trainable, frozen)) == jax.tree.structure(PARAMS)


def test_a_factor_multiplies_the_updates():
    factors = parameter_factors([("encoder/.*", 0.5), (".*", 1.0)], PARAMS)
    scaled = factors.scale(PARAMS)
    np.testing.assert_array_equal(scaled["encoder"]["norm"]["scale"], [0.5, 0.5, 0.5])
    assert scaled["decoder"]["layers"]["kernel"] is PARAMS["decoder"]["layers"]["kernel"]


def test_only_frozen_parameters_change_their_dtype():
    factors = parameter_factors([("decoder/.*", None), (".*", 1.0)], PARAMS)
    cast = factors.cast_frozen(PARAMS, "bfloat16")
    kernel = cast["decoder"]["layers"]["kernel"]
    assert kernel.dtype == jnp.bfloat16
    assert float(kernel[0]) == 0.333984375  # 171 / 512, a third to eight bits
    assert cast["encoder"]["norm"]["scale"].dtype == jnp.float32
    assert factors.cast_frozen(PARAMS, None) is PARAMS


@pytest.mark.parametrize(
    "rules, message",
    [
        (
            [("encoder/.*", 1.0)],
            r"No rule of PARAMETER_RULES matches the parameter 'decoder/layers/kernel'; the rules "
            r"are 'encoder/\.\*'\. Add one for it: with None to freeze it, or with 1\.0",
        ),
        ([], r"the rules are none"),
        (
            [("decodr/.*", None), (".*", 1.0)],
            r"'decodr/\.\*' of PARAMETER_RULES matches no parameter.* Nearest: decoder",
        ),
        ([("q9/.*", None), (".*", 1.0)], r"matches no parameter.* The model has decoder, encoder"),
        ([(".*", None)], r"PARAMETER_RULES freeze every one of 3 parameters.* as last rule"),
        (
            [("encoder/*(", None)],
            r"'encoder/\*\(' of PARAMETER_RULES is no regular expression: .* write \"encoder/\.\*",
        ),
        (["encoder/.*"], r"'encoder/\.\*' of PARAMETER_RULES is no rule; write \(regular expr"),
        ([(3, 1.0)], r"\(3, 1\.0\) of PARAMETER_RULES is no rule; its regular expression must"),
        ([(".*", "fast")], r"'fast'\) of PARAMETER_RULES is no rule; .* a number or None"),
        ([(".*", 0.0)], r"'\.\*' of PARAMETER_RULES has the factor 0\.0; .* None to freeze"),
        ([(".*", -1.0)], r"has the factor -1\.0; it must be more than 0"),
    ],
)
def test_rules_that_do_not_fit_name_what_to_change(rules, message):
    with pytest.raises(ValueError, match=message):
        parameter_factors(rules, PARAMS)


@pytest.mark.parametrize("dtype", ["bfloat", "int8", "float8_e4m3fn", "float64"])
def test_a_frozen_dtype_that_is_not_supported_is_refused_with_those_that_are(dtype):
    factors = parameter_factors([("decoder/.*", None), (".*", 1.0)], PARAMS)
    message = f"'{dtype}', which is none of 'float32', 'bfloat16', 'float16'; set it to 'bfloat16'"
    with pytest.raises(ValueError, match=message):
        factors.cast_frozen(PARAMS, dtype)
