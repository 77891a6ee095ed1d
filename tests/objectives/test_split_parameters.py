"""Tests of codet5p_jax.objectives.split_parameters: on eight devices, as lowered and as run."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.objectives.split_parameters import Gathering, SplitParameter, is_split
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
from codet5p_jax.training.partitioning import Partitioner, standard_logical_axis_rules
from codet5p_jax.training.program import Program
from codet5p_jax.training.program_costs import program_costs

ROWS, LENGTH = 16, 12
FULLY_SHARDED = standard_logical_axis_rules(parameter_partitioning_dims=2)
SHAPES = {
    "encoder_input_tokens": jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32),
    "decoder_input_tokens": jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32),
    "decoder_target_tokens": jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32),
    "decoder_loss_weights": jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.float32),
}


def _program(tiny_model, *, microbatches=2, dtype=jnp.bfloat16, **options):
    config = dataclasses.replace(tiny_model.config, num_heads=4, dtype=dtype)
    objective = Seq2SeqObjective(
        model=CodeT5p(config), microbatches=microbatches, chunk_length=LENGTH // 2
    )
    stream = Stream(name="denoising", objective=objective, dataset=None)
    return Program(
        curriculum=Curriculum(phases=[Phase(name="all", steps=2, streams=[stream])]),
        learning_rate=optax.constant_schedule(0.05),
        optimizer=optax.sgd,
        partitioner=Partitioner(logical_axis_rules=FULLY_SHARDED, **options),
    )


def _lowered(program):
    traced = program.train_steps[0].trace(program.abstract_state(), {"denoising": SHAPES})
    return traced.lower(lowering_platforms=("tpu",)).as_text()


def _messages(program):
    """Returns kind -> the types that the step sends, as lowered for TPUs."""
    text = _lowered(program)
    sent = {}
    for kind in ("all_gather", "reduce_scatter", "all_reduce"):
        pattern = rf"stablehlo\.{kind}\".*? : \(tensor<([^>]*)>"
        sent[kind] = re.findall(pattern, text, flags=re.DOTALL)
    return sent


@pytest.mark.parametrize("per_layer", [True, False])
def test_matrices_are_gathered_and_their_gradients_scattered_in_the_models_dtype(
    tiny_model, per_layer
):
    sent = _messages(_program(tiny_model, gather_per_layer=per_layer))
    for kind in ("all_gather", "reduce_scatter"):
        assert sum(shape.endswith("xbf16") for shape in sent[kind]) >= 10  # the kernels of a layer
    # No other matrix is added up whole but the tables of position biases.
    matrices = {shape for shape in sent["all_reduce"] if shape.count("x") > 1}
    assert matrices == {"32x4xbf16"}


def test_gathered_once_no_message_is_repeated_for_a_microbatch(tiny_model):
    def sent(microbatches, *, per_layer):
        """Returns kind -> messages of a run, those of loops times their trips."""
        program = _program(tiny_model, microbatches=microbatches, gather_per_layer=per_layer)
        compiled = program.lower_train_step(0, {"denoising": SHAPES}).compile()
        return {each.kind: each.count for each in program_costs(compiled.as_text()).collectives}

    once = sent(2, per_layer=False)
    assert once == sent(1, per_layer=False)
    assert sent(2, per_layer=True)["reduce-scatter"] > once["reduce-scatter"]


def test_gradients_of_microbatches_are_added_up_in_float32_though_they_travel_in_bfloat16(
    tiny_model,
):
    program = _program(tiny_model, gather_per_layer=False)
    loops = re.findall(r"= stablehlo\.while\(.*\) : (.*)", _lowered(program))
    carried = "\n".join(loops)
    embedding = "x".join(
        map(str, program.abstract_state().params["token_embedder"]["embedding"].shape)
    )
    assert f"tensor<{embedding}xf32>" in carried
    assert f"tensor<{embedding}xbf16>" not in carried


def _learned(program):
    """Returns parameters and loss after a step on random tokens."""
    numbers = np.random.default_rng(0)
    tokens = numbers.integers(5, 400, (3, ROWS, LENGTH)).astype(np.int32)
    batch = dict(zip(list(SHAPES)[:3], tokens, strict=True))
    batch["decoder_loss_weights"] = np.ones((ROWS, LENGTH), np.float32)
    on_devices = {"denoising": program.partitioner.put_batch(batch)}
    state, metrics, _ = program.train_steps[0](program.initial_state(), on_devices)
    return jax.device_get((state.params, metrics["loss"].compute()))


def test_a_run_of_bfloat16_learns_the_same_gathered_by_layer_and_once(tiny_model):
    parts, loss = _learned(_program(tiny_model))
    once, same = _learned(_program(tiny_model, gather_per_layer=False))
    assert loss == pytest.approx(same, rel=1e-6)
    # Each layer's gradient is rounded to bfloat16 (2**-9) per microbatch, or once.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), parts, once)


@pytest.mark.parametrize("per_layer", [pytest.param(True, marks=pytest.mark.slow), False])
def test_frozen_parameters_in_parts_are_read_and_stay(tiny_model, per_layer):
    def program(**options):
        program = _program(tiny_model, dtype=jnp.float32, **options)
        rules = [("encoder/.*", None), (".*", 1.0)]
        return dataclasses.replace(program, parameter_rules=rules, frozen_dtype=jnp.bfloat16)

    one, loss = _learned(program(devices=jax.devices()[:1]))
    parts, same = _learned(program(gather_per_layer=per_layer))
    assert loss == pytest.approx(same, rel=1e-5)
    jax.tree.map(np.testing.assert_array_equal, one["encoder"], parts["encoder"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, parts)


def test_flax_reads_a_parameter_in_parts_and_takes_its_layers_off_and_on():
    whole = jnp.ones([3, 16, 4])
    parts = SplitParameter(whole, ((), ("data",), ()), jnp.bfloat16, when_read=True)
    # Outside jax.shard_map nothing is in parts.
    assert nn.unbox({"kernel": parts})["kernel"] is whole
    layer = parts.remove_axis(0, {})
    assert layer.axes == (("data",), ()) and layer.add_axis(0, {}) == parts
    assert parts.spec == PartitionSpec(None, ("data",), None)
    assert parts.mesh_axes == ("data",)


def test_rows_and_what_every_device_holds_are_no_parameters_in_parts():
    tree = {
        "kernel": jnp.ones([2, 16, 4]),
        "scale": jnp.ones([2, 16]),
        "table": jnp.ones([4, 32]),
        "queue": jnp.ones([16, 4]),
        "temperature": jnp.float32(1),
    }
    axes = {
        "kernel": PartitionSpec("layers", "embed", "joined_kv"),
        "scale": PartitionSpec("layers", "embed"),
        "table": PartitionSpec("heads", "relpos_buckets"),
        "queue": PartitionSpec("queue", "projection"),
        "temperature": PartitionSpec(),
    }
    seen = {}

    def look(tree):
        seen.update(Gathering(jnp.bfloat16).box(tree, axes))
        return 0

    jax.eval_shape(
        Partitioner(logical_axis_rules=FULLY_SHARDED).partition(look, (None,), None), tree
    )
    assert {name for name, node in seen.items() if is_split(node)} == {"kernel", "scale"}
    assert (seen["kernel"].dtype, seen["kernel"].when_read) == (jnp.bfloat16, True)
    assert (seen["scale"].dtype, seen["scale"].when_read) == (None, False)
