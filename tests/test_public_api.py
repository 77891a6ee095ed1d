"""The names that `codet5p_jax` offers."""

import pytest

import codet5p_jax


@pytest.mark.parametrize("name", sorted(codet5p_jax.__all__))
def test_a_public_name_is_what_its_module_defines(name):
    value = getattr(codet5p_jax, name)
    assert getattr(value, "__name__", name) == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'CodeT6p'"):
        _ = codet5p_jax.CodeT6p
