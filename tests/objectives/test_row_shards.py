"""Tests of codet5p_jax.objectives.row_shards: on eight devices, against one."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.objectives.mesh_axes import num_row_shards
from codet5p_jax.objectives.row_shards import on_each_shard
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training.partitioning import Partitioner
from codet5p_jax.training.program_costs import program_costs

ROWS, LENGTH = 16, 12


@pytest.fixture(scope="module")
def batch():
    numbers = np.random.default_rng(0)
    tokens = numbers.integers(5, 400, (3, ROWS, LENGTH)).astype(np.int32)
    names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    weights = numbers.integers(0, 2, (ROWS, LENGTH)).astype(np.int32)
    return {**dict(zip(names, tokens, strict=True)), "decoder_loss_weights": weights}


def _value_and_gradients(tiny_model, partitioner, **options):
    """Returns a jitted function of parameters and a batch, with dropout."""
    config = dataclasses.replace(tiny_model.config, dropout_rate=0.3, num_heads=4)
    objective = Seq2SeqObjective(model=CodeT5p(config), **options)

    def loss(params, batch):
        return objective.loss(params, {}, batch, jax.random.key(1), train=True)[0].compute()

    return partitioner.partition(jax.value_and_grad(loss), (None, partitioner.batch_axes), None)


@pytest.fixture(scope="module")
def params(tiny_model):
    config = dataclasses.replace(tiny_model.config, num_heads=4)
    tokens = jnp.ones([1, 2], jnp.int32)
    return nn.unbox(jax.jit(CodeT5p(config).init)(jax.random.key(0), tokens, tokens)["params"])


@pytest.mark.parametrize("microbatches", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_dropout_and_all_devices_with_rows_of_their_own_give_what_one_gives(
    tiny_model, params, batch, microbatches
):
    one, eight = (
        _value_and_gradients(tiny_model, partitioner, microbatches=microbatches)
        for partitioner in (Partitioner(devices=jax.devices()[:1]), Partitioner(num_partitions=2))
    )
    jax.tree.map(  # sums of float32 in another order
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        jax.device_get(eight(params, batch)),
        jax.device_get(one(params, batch)),
    )


@pytest.mark.parametrize("options", [{}, {"microbatches": 2, "chunk_length": 5}])
def test_a_gradient_travels_once_however_often_it_is_added_to(tiny_model, params, batch, options):
    """Not per microbatch, chunk or use of the embedding; position biases as their tables."""
    function = _value_and_gradients(tiny_model, Partitioner(), **options)
    costs = program_costs(function.lower(params, batch).compile().as_text())
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    heads = ("projection", "matching_head")  # not of this loss
    unused = sum(leaf.nbytes for name in heads for leaf in jax.tree.leaves(params.get(name, {})))
    assert size - unused <= costs.operand_bytes("all-reduce") <= size + 100


def test_gradients_of_a_model_in_bfloat16_travel_in_it(tiny_model, params, batch):
    config = dataclasses.replace(tiny_model.config, num_heads=4, dtype=jnp.bfloat16)
    objective = Seq2SeqObjective(model=CodeT5p(config), microbatches=2)

    def loss(params, batch):
        return objective.loss(params, {}, batch, jax.random.key(1), train=False)[0].compute()

    partitioner = Partitioner()
    function = partitioner.partition(jax.grad(loss), (None, partitioner.batch_axes), None)
    # On CPU it travels in float32.
    text = function.trace(params, batch).lower(lowering_platforms=("tpu",)).as_text()
    reduced = re.findall(r"all_reduce.*?\}\) : \(tensor<([^>]*)>", text, flags=re.DOTALL)
    matrices = [shape for shape in reduced if shape.count("x") >= 2]
    assert matrices
    assert all(shape.endswith("xbf16") for shape in matrices)


def test_sums_add_up_and_results_stay_where_their_rows_are():
    def function(scale, chunks):
        return jnp.sum(chunks), scale * jnp.sum(chunks), chunks * num_row_shards()

    partitioner, chunks = Partitioner(), jnp.arange(48.0).reshape(2, 8, 3)
    rows = PartitionSpec(None, "data")
    step = partitioner.partition(
        lambda scale, chunks: on_each_shard(function, scale, chunks, gradients_like=scale),
        (None, rows),
        None,
    )
    total, gradient, results = step(jnp.float32(2), chunks)
    assert (float(total), float(gradient)) == (48 * 47 / 2, 48 * 47)
    np.testing.assert_array_equal(results, chunks)  # inside, rows lie on one device
