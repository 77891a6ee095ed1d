import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.models.positions import RelativePositionBias


@pytest.fixture
def bias_of(oracle):
    """The position bias of a stack of the oracle, from a position on."""

    def made(stack, query_offset=0):
        module = RelativePositionBias(3, stack == "encoder", num_buckets=8, max_distance=12)
        params = oracle.params[stack]["relative_position_bias"]
        return module.apply({"params": params}, query_offset)

    return made


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_bias_equals_transformers(oracle, bias_of, stack):
    attention = getattr(oracle.torch_model, stack).block[0].layer[0].SelfAttention
    theirs = attention.compute_bias(9, 17).detach().numpy()
    np.testing.assert_array_equal(bias_of(stack).matrix(9, 17), theirs)


def test_bias_of_later_queries_is_the_later_rows(bias_of):
    later = bias_of("decoder", jnp.int32(5)).matrix(2, 9)
    np.testing.assert_array_equal(later, bias_of("decoder").matrix(9, 9)[:, :, 5:7])
