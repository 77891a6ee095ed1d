"""Tests of codet5p_jax.training.partitioning, on eight CPU devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from codet5p_jax.training.ahead_of_time import topology_devices
from codet5p_jax.training.partitioning import DataLayout, Partitioner, standard_logical_axis_rules
from codet5p_jax.training.program_costs import program_costs
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


@pytest.mark.parametrize(
    "arguments, shape",
    [
        ({}, (1, 8, 1)),
        ({"num_partitions": 2}, (1, 4, 2)),
        ({"mesh_shape": (2, 4)}, (1, 2, 4)),
        ({"num_slices": 2}, (2, 4, 1)),
        ({"num_slices": 2, "num_partitions": 4}, (2, 1, 4)),
    ],
)
def test_the_mesh_divides_the_devices_into_slices_data_and_model(arguments, shape):
    mesh = _partitioner(**arguments).mesh
    assert dict(mesh.shape) == dict(zip(("slice", "data", "model"), shape, strict=True))


def test_devices_of_a_slice_stay_together():
    mesh = _partitioner(num_slices=2, num_partitions=2).mesh
    ids = [{device.id for device in part.flat} for part in mesh.devices]
    assert ids == [{0, 1, 2, 3}, {4, 5, 6, 7}]


def test_parameters_and_optimizer_state_lie_along_their_logical_axes():
    axes = _partitioner(num_partitions=2).get_mesh_axes(_state())
    assert axes.params["kernel"] == P(None, "model")
    assert axes.opt_state["mu"] == P(None, "model")
    assert axes.step == P()


def test_two_parameter_dimensions_split_parameters_over_data_too():
    rules = standard_logical_axis_rules(parameter_partitioning_dims=2)
    axes = _partitioner(num_partitions=2, logical_axis_rules=rules).get_mesh_axes(_state())
    assert axes.params["kernel"] == P("data", "model")


def test_an_additional_rule_leaves_an_axis_whole_that_its_mesh_axis_does_not_divide():
    rules = standard_logical_axis_rules(
        parameter_partitioning_dims=2, additional_rules=[("embed", None)]
    )
    partitioner = _partitioner(logical_axis_rules=rules)
    assert partitioner.get_mesh_axes(_state(shape=(12, 8))).params["kernel"] == P(None, "model")


def test_slices_hold_copies_of_split_parameters_and_parts_of_the_batch():
    rules = standard_logical_axis_rules(parameter_partitioning_dims=2)
    partitioner = _partitioner(num_slices=2, num_partitions=2, logical_axis_rules=rules)
    axes = partitioner.get_mesh_axes(_state())
    assert axes.params["kernel"] == P("data", "model")
    batch = partitioner.put_batch({"tokens": np.ones((8, 3), np.int32)})
    assert batch["tokens"].addressable_shards[0].data.shape == (2, 3)


def test_a_partitioned_function_gives_the_plain_result():
    partitioner = _partitioner(num_partitions=2)
    spec = P("data", "model")
    double = partitioner.partition(lambda x: 2 * x, (spec,), spec)
    x = jnp.arange(32.0).reshape(4, 8)
    y = partitioner.compile(double, x)(jax.device_put(x, partitioner.shardings(spec)))
    np.testing.assert_array_equal(y, 2 * x)
    assert y.sharding.spec == spec


def test_activations_lie_where_their_logical_axes_say():
    partitioner = _partitioner(num_partitions=2)

    def activation(x):
        return nn.with_logical_constraint(2 * x, ("batch", "mlp"))

    spec = P()
    y = partitioner.partition(activation, (spec,), None)(jnp.arange(32.0).reshape(4, 8))
    assert y.sharding.shard_shape(y.shape) == (1, 4)


def test_a_batch_is_cut_along_slice_and_data_alone():
    partitioner = _partitioner(num_slices=2, num_partitions=2)
    assert partitioner.get_data_layout(12) == DataLayout(batch_size=12, num_parts=4)


def test_a_batch_lies_along_slice_and_data():
    batch = _partitioner(num_partitions=2).put_batch({"tokens": np.ones((8, 3), np.int32)})
    assert batch["tokens"].sharding.spec == P(("slice", "data"))
    assert batch["tokens"].addressable_shards[0].data.shape == (2, 3)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: _partitioner(num_partitions=3),
            r"does not divide the 8 devices of a slice; set NUM_PARTITIONS to one of 1, 2, 4, 8",
        ),
        (
            lambda: _partitioner(num_slices=3),
            r"num_slices is 3, which does not divide the 8 devices; use one of 1, 2, 4, 8",
        ),
        (
            lambda: _partitioner(mesh_shape=(4, 4)),
            r"mesh_shape is \(4, 4\), 16 devices, and a slice has 8; set MESH_SHAPE to one of "
            r"\(8, 1\), \(4, 2\)",
        ),
        (
            lambda: _partitioner(mesh_shape=(4, 2), num_partitions=2),
            r"set MESH_SHAPE or NUM_PARTITIONS, not both",
        ),
        (
            lambda: _partitioner().get_data_layout(12),
            r"12 rows.* 8 devices along 'slice' and 'data'.* use a batch of 16",
        ),
        (
            lambda: _partitioner().get_mesh_axes(_state(axes=("embed", "mpl"))),
            r"params.*kernel.* has the logical axis 'mpl', which no rule names",
        ),
        (
            lambda: _partitioner(num_partitions=8).get_mesh_axes(_state(shape=(4, 12))),
            r"kernel.* has 12 entries along 'mlp', which the 8 devices along 'model' do not "
            r"divide; they divide among 6\. Use another mesh, or add \('mlp', None\) to standard_",
        ),
        (
            lambda: _partitioner(
                logical_axis_rules=[("embed", "model"), ("mlp", "model")]
            ).get_mesh_axes(_state()),
            r"kernel.*: 'mlp' would lie along 'model', which another axis takes. Add \('mlp', None",
        ),
        (
            lambda: _partitioner(logical_axis_rules=[("embed", "modle")]),
            r"names the mesh axis 'modle'; the mesh has slice, data, model",
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


@pytest.mark.tpu
def test_on_tpus_large_gradients_travel_apart_and_small_ones_together():
    pytest.importorskip("libtpu")
    partitioner = Partitioner(devices=topology_devices("v5e:2x2"))

    def sums(*arrays):
        def of_all_devices(*parts):
            return jax.lax.psum(parts, "data")

        return jax.shard_map(of_all_devices, in_specs=P(), out_specs=P(), check_vma=False)(*arrays)

    arrays = [jax.ShapeDtypeStruct((n, 1024), jnp.float32) for n in (4096, 4096, 3, 5)]
    compiled = partitioner.compile(partitioner.partition(sums, (P(),) * 4, P()), *arrays)
    (sent,) = program_costs(compiled.as_text()).collectives
    assert (sent.kind, sent.count) == ("all-reduce", 3)
