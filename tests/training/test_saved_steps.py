"""Tests of codet5p_jax.training.saved_steps; the devices are CPUs, which load what they save."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
from codet5p_jax.training.optimizer import adamw
from codet5p_jax.training.partitioning import Partitioner
from codet5p_jax.training.program import Program
from codet5p_jax.training.saved_steps import compilation_cache_at, load_step, save_step

ROWS, LENGTH = 8, 6


@pytest.fixture(scope="module")
def batches():
    tokens = np.random.default_rng(0).integers(5, 90, [ROWS, LENGTH], dtype=np.int32)
    names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    weights = np.ones([ROWS, LENGTH], np.float32)
    return {"s": dict.fromkeys(names, tokens) | {"decoder_loss_weights": weights}}


def _program(model):
    stream = Stream(name="s", objective=Seq2SeqObjective(model=model), dataset=None)
    return Program(
        curriculum=Curriculum(phases=[Phase(name="p", steps=2, streams=[stream])]),
        learning_rate=optax.constant_schedule(1e-2),
        optimizer=adamw,
        partitioner=Partitioner(),
    )


def _shapes(batches):
    return jax.tree.map(lambda rows: jax.ShapeDtypeStruct(rows.shape, rows.dtype), batches)


def _placed(program, batches):
    sharding = jax.NamedSharding(program.partitioner.mesh, program.partitioner.batch_axes)
    return jax.device_put(batches, sharding)


@pytest.fixture(scope="module")
def outer_cache():
    """The cache that these tests themselves run with, if any."""
    return jax.config.jax_compilation_cache_dir


@pytest.fixture(scope="module")
def ahead(outer_cache, tiny_model, batches, tmp_path_factory):
    """A step compiled ahead of time, in an empty cache: (executable, folder of the cache)."""
    folder = tmp_path_factory.mktemp("cache")
    with compilation_cache_at(folder):
        executable = _program(tiny_model).lower_train_step(0, _shapes(batches)).compile()
    return executable, folder


def _steps(folder):
    return {path.name for path in folder.glob("jit_with_rules*-cache")}


def test_a_run_finds_the_step_that_was_compiled_ahead_of_it(ahead, tiny_model, batches):
    _, folder = ahead
    before = _steps(folder)
    assert len(before) == 1
    program = _program(tiny_model)
    with compilation_cache_at(folder):
        jax.clear_caches()  # as in a process of its own
        program.train_steps[0](program.initial_state(), _placed(program, batches))
    assert _steps(folder) == before  # a miss would have been written


def test_another_program_does_not_find_it(ahead, tiny_model, batches):
    _, folder = ahead
    longer = jax.tree.map(lambda rows: np.concatenate([rows, rows], axis=1), batches)
    before = _steps(folder)
    with compilation_cache_at(folder):
        _program(tiny_model).lower_train_step(0, _shapes(longer)).compile()
    assert len(_steps(folder) - before) == 1


def test_nothing_is_kept_outside_of_the_cache(outer_cache, ahead):
    _, folder = ahead
    before = set(folder.iterdir())
    jax.jit(lambda x: x * 3 + 1)(jnp.ones(7)).block_until_ready()
    assert set(folder.iterdir()) == before
    assert jax.config.jax_compilation_cache_dir == outer_cache


def test_a_loaded_step_trains_as_the_one_saved(ahead, tiny_model, batches, tmp_path):
    executable, _ = ahead
    size = save_step(executable, tmp_path / "deep" / "p.executable")
    path = tmp_path / "deep" / "p.executable"
    assert path.stat().st_size == size
    loaded = load_step(path, devices=jax.devices())
    program = _program(tiny_model)
    states = [
        step(program.initial_state(), _placed(program, batches))[0].params
        for step in (executable, loaded)
    ]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert not np.array_equal(  # a step that changes nothing would equal itself
        states[1]["token_embedder"]["embedding"],
        program.initial_state().params["token_embedder"]["embedding"],
    )


def test_a_step_of_other_devices_is_an_error(ahead, tmp_path):
    save_step(ahead[0], tmp_path / "p.executable")
    with pytest.raises(ValueError, match=r"p\.executable is no step that 2 devices 'cpu' can run"):
        load_step(tmp_path / "p.executable", devices=jax.devices()[:2])


def test_a_file_that_is_no_step_is_an_error(tmp_path):
    path = pathlib.Path(tmp_path / "p.executable")
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="Save it again with the jax and libtpu of this machine"):
        load_step(path, devices=jax.devices())
    with pytest.raises(FileNotFoundError):
        load_step(tmp_path / "none", devices=jax.devices())
