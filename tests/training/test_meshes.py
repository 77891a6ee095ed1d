"""One step of both stages on several meshes: the mesh changes nothing but who computes what."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.objectives.bimodal import BimodalObjective
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
from codet5p_jax.training.partitioning import Partitioner, standard_logical_axis_rules
from codet5p_jax.training.program import Program

ROWS, TEXT, CODE = 16, 8, 16
FULLY_SHARDED = standard_logical_axis_rules(parameter_partitioning_dims=2)
MESHES = {
    "data 8": {},
    "data 4 x model 2": {"num_partitions": 2},
    "fully sharded": {"num_partitions": 2, "logical_axis_rules": FULLY_SHARDED},
    "fully sharded, gathered at once": {
        "num_partitions": 2,
        "logical_axis_rules": FULLY_SHARDED,
        "gather_per_layer": False,
    },
    "activations over model too": {
        "num_partitions": 2,
        "logical_axis_rules": standard_logical_axis_rules(
            parameter_partitioning_dims=2, activation_partitioning_dims=2
        ),
    },
    "two slices": {"num_slices": 2, "mesh_shape": (2, 2), "logical_axis_rules": FULLY_SHARDED},
    "two slices, gathered at once": {
        "num_slices": 2,
        "mesh_shape": (2, 2),
        "logical_axis_rules": FULLY_SHARDED,
        "gather_per_layer": False,
    },
}


@pytest.fixture(scope="module")
def model(tiny_model):
    return CodeT5p(dataclasses.replace(tiny_model.config, num_heads=4, projection_dim=16))


def _sequences(numbers, length):
    tokens = numbers.integers(5, 400, (ROWS, length)).astype(np.int32)
    sizes = numbers.integers(3, length + 1, ROWS)
    tokens[np.arange(length) >= sizes[:, None]] = 0
    tokens[:, 0], tokens[np.arange(ROWS), sizes - 1] = 1, 2
    return tokens


@pytest.fixture(scope="module")
def batches():
    numbers = np.random.default_rng(0)
    targets = _sequences(numbers, CODE)
    seq2seq = {
        "encoder_input_tokens": _sequences(numbers, CODE),
        "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": (targets != 0).astype(np.int32),
    }
    pairs = {
        "text_tokens": _sequences(numbers, TEXT),
        "code_tokens": _sequences(numbers, CODE),
        "pair_ids": np.arange(ROWS, dtype=np.int32) % 12,  # some pairs twice
    }
    return {"denoising": seq2seq, "pairs": pairs}


def _program(model, partitioner, *, microbatches=1):
    """Returns the program of both stages at once; plain SGD, so that parameters show gradients."""
    seq2seq = Seq2SeqObjective(model=model, microbatches=microbatches)
    bimodal = BimodalObjective(
        model=model,
        text_length=TEXT,
        code_length=CODE,
        queue_size=2 * ROWS,
        momentum=0.5,
        alpha=0.4,
        negatives_from_queue=True,
        microbatches=microbatches,
        num_lengths=2 if microbatches > 1 else 1,
    )
    streams = [
        Stream(name="denoising", objective=seq2seq, dataset=None),
        Stream(name="pairs", objective=bimodal, dataset=None),
    ]
    return Program(
        curriculum=Curriculum(phases=[Phase(name="both", steps=2, streams=streams)]),
        learning_rate=optax.constant_schedule(0.05),
        optimizer=optax.sgd,
        partitioner=partitioner,
    )


def _two_steps(program, batches):
    """Returns the losses and the state after two steps."""
    state, losses = program.initial_state(), []
    for _ in range(2):
        on_devices = {name: program.partitioner.put_batch(batch) for name, batch in batches.items()}
        state, metrics, _ = program.train_steps[0](state, on_devices)
        losses.append({k: float(v.compute()) for k, v in metrics.items() if k.endswith("loss")})
    return losses, state


@pytest.fixture(scope="module")
def on_one_device(model, batches):
    return _two_steps(_program(model, Partitioner(devices=jax.devices()[:1])), batches)


@pytest.mark.parametrize(
    ("mesh", "microbatches"),
    [
        ("data 4 x model 2", 2),
        *(
            pytest.param(mesh, microbatches, marks=pytest.mark.slow)
            for mesh, microbatches in (
                ("data 8", 1),
                ("data 8", 2),
                ("data 4 x model 2", 1),
                ("two slices", 2),
                ("activations over model too", 2),
                ("fully sharded", 1),
                ("fully sharded", 2),
                ("fully sharded, gathered at once", 2),
                ("two slices, gathered at once", 2),
            )
        ),
    ],
)
def test_eight_devices_compute_what_one_does(model, batches, on_one_device, mesh, microbatches):
    program = _program(model, Partitioner(**MESHES[mesh]), microbatches=microbatches)
    losses, state = _two_steps(program, batches)
    expected_losses, expected = on_one_device
    for got, wanted in zip(losses, expected_losses, strict=True):
        assert got == pytest.approx(wanted, rel=1e-5)
    learned = (state.params, state.objective_state)
    jax.tree.map(  # absolute: parameters and features are of the order of one
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5),
        jax.device_get(learned),
        jax.device_get((expected.params, expected.objective_state)),
    )


@pytest.mark.parametrize("mesh", list(MESHES))
def test_the_queue_and_the_momentum_encoder_are_spread_over_the_devices(model, mesh):
    partitioner = Partitioner(**MESHES[mesh])
    shapes = _program(model, partitioner).abstract_state()
    pairs = shapes.objective_state["pairs"]
    shards = partitioner.num_row_shards
    for entries in (pairs.queue.text_features, pairs.queue.code_tokens, pairs.queue.pair_ids):
        assert entries.sharding.shard_shape(entries.shape)[0] == 2 * ROWS // shards
    for name, average in pairs.momentum_params.items():
        jax.tree.map(
            lambda a, p: np.testing.assert_equal(a.sharding.spec, p.sharding.spec),
            average,
            shapes.params[name],
        )
