"""Tests of codet5p_jax.training.partitioning, on eight CPU devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from codet5p_jax.training.partitioning import Partitioner, standard_logical_axis_rules
from codet5p_jax.training.state import TrainState


def _state(axes=("embed", "mlp"), shape=(4, 8)):
    kernel = nn.LogicallyPartitioned(jnp.zeros(shape), axes)
    return TrainState(
        step=jnp.int32(0),
        params={"kernel": kernel},
        opt_state={"mu": kernel},
        objective_state={},
        rng=jax.random.key(0),
    )


def _partitioner(**arguments):
    return Partitioner(devices=jax.devices()[:8], **arguments)


def test_the_mesh_divides_the_devices_into_data_and_model():
    assert dict(_partitioner(num_partitions=2).mesh.shape) == {"data": 4, "model": 2}


def test_parameters_and_optimizer_state_lie_along_their_logical_axes():
    axes = _partitioner(num_partitions=2).get_mesh_axes(_state())
    assert axes.params["kernel"] == PartitionSpec(None, "model")
    assert axes.opt_state["mu"] == PartitionSpec(None, "model")
    assert axes.step == PartitionSpec()


def test_two_parameter_dimensions_split_parameters_over_data_too():
    rules = standard_logical_axis_rules(parameter_partitioning_dims=2)
    axes = _partitioner(num_partitions=2, logical_axis_rules=rules).get_mesh_axes(_state())
    assert axes.params["kernel"] == PartitionSpec("data", "model")


def test_a_partitioned_function_gives_the_plain_result():
    partitioner = _partitioner(num_partitions=2)
    spec = PartitionSpec("data", "model")
    double = partitioner.partition(lambda x: 2 * x, (spec,), spec)
    x = jnp.arange(32.0).reshape(4, 8)
    y = partitioner.compile(double, x)(jax.device_put(x, partitioner.shardings(spec)))
    np.testing.assert_array_equal(y, 2 * x)
    assert y.sharding.spec == spec


def test_activations_lie_where_their_logical_axes_say():
    partitioner = _partitioner(num_partitions=2)

    def activation(x):
        return nn.with_logical_constraint(2 * x, ("batch", "mlp"))

    spec = PartitionSpec()
    y = partitioner.partition(activation, (spec,), None)(jnp.arange(32.0).reshape(4, 8))
    assert y.sharding.spec == PartitionSpec("data", "model")


def test_a_batch_lies_along_data():
    batch = _partitioner(num_partitions=2).put_batch({"tokens": np.ones((8, 3), np.int32)})
    assert batch["tokens"].sharding.spec == PartitionSpec("data")
    assert batch["tokens"].addressable_shards[0].data.shape == (2, 3)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: _partitioner(num_partitions=3), r"does not divide the 8 devices; use one of 1, 2"),
        (lambda: _partitioner().get_data_layout(12), r"12 rows.* of 8 devices.*use a batch of 16"),
        (
            lambda: _partitioner().get_mesh_axes(_state(axes=("embed", "mpl"))),
            r"params.*kernel.* has the logical axis 'mpl', which no rule names",
        ),
        (
            lambda: _partitioner(num_partitions=8).get_mesh_axes(_state(shape=(4, 12))),
            r"kernel.* has 12 entries along 'mlp', which 8 devices along 'model' do not divide",
        ),
        (
            lambda: _partitioner(logical_axis_rules=[("embed", "modle")]),
            r"names the mesh axis 'modle'; the mesh has data, model",
        ),
        (
            lambda: standard_logical_axis_rules(parameter_partitioning_dims=3),
            r"parameter_partitioning_dims is 3; it must be 1 or 2",
        ),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
