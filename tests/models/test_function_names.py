import functools

import jax
import pytest
from flax import linen as nn

from codet5p_jax.models.attention import dot_product_attention
from codet5p_jax.models.function_names import function_from_name, function_name


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (nn.relu, "flax.linen.relu"),
        (jax.checkpoint_policies.dots_saveable, "jax.checkpoint_policies.dots_saveable"),
        (dot_product_attention, "codet5p_jax.models.attention.dot_product_attention"),
    ],
)
def test_a_function_survives_its_name(function, name):
    assert function_name(function) == name
    assert function_from_name(name) is function


def test_a_function_that_gin_wraps_keeps_its_name():
    policy = jax.checkpoint_policies.dots_saveable
    wrapped = functools.wraps(policy)(lambda *args, **kwargs: policy(*args, **kwargs))
    assert function_name(wrapped) == "jax.checkpoint_policies.dots_saveable"


def test_a_lambda_has_no_name():
    with pytest.raises(ValueError, match="Define it at the top level of a module"):
        function_name(lambda x: x)


@pytest.mark.parametrize("name", ["flax.linen.rellu", "no_such_package.f", "relu", ""])
def test_an_unknown_name_is_an_error_that_shows_it(name):
    with pytest.raises(ValueError, match=f"No function '{name}'"):
        function_from_name(name)
