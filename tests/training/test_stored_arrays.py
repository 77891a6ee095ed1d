"""Arrays of a checkpoint that are read layer by layer."""

import errno

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from codet5p_jax.training import stored_arrays as module
from codet5p_jax.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    load_params,
    newest_step,
    save_params,
    stored_params,
)
from codet5p_jax.training.state import TrainState


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    return {
        "layers": {
            "kernel": rng.normal(size=(7, 6, 10)).astype("float32"),
            "frozen": rng.normal(size=(4, 8)).astype(ml_dtypes.bfloat16),
        },
        "scale": rng.normal(size=5).astype("float32"),
    }


def _train_state(params):
    on_device = jax.tree.map(jnp.asarray, params)
    return TrainState(
        step=jnp.int32(0),
        params=on_device,
        opt_state=(),
        objective_state={},
        rng=jax.random.key(0),
    )


def _written_in_training(folder, params):
    checkpoints = Checkpoints(folder)
    checkpoints.save(_train_state(params), {}, {}, step=0)
    checkpoints.wait()
    checkpoints.close()


WRITERS = {
    "save_params": lambda folder, params: save_params(folder, params, {}),
    "training": _written_in_training,
}


@pytest.fixture(params=WRITERS.values(), ids=WRITERS.keys())
def write(request):
    return request.param


@pytest.mark.parametrize("chunk_bytes", [64 * 2**20, 700, 240, 100])
def test_layers_read_one_by_one_are_the_array(tmp_path, params, monkeypatch, chunk_bytes, write):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    write(tmp_path, params)
    stored = stored_params(tmp_path)
    kernel, frozen = stored["layers"]["kernel"], stored["layers"]["frozen"]
    assert (kernel.shape, kernel.dtype) == ((7, 6, 10), np.float32)
    assert (frozen.shape, frozen.dtype) == ((4, 8), ml_dtypes.bfloat16)
    for _ in range(2):
        for layer in range(7):
            np.testing.assert_array_equal(kernel[layer], params["layers"]["kernel"][layer])
    np.testing.assert_array_equal(kernel[3], params["layers"]["kernel"][3])
    np.testing.assert_array_equal(np.asarray(frozen), params["layers"]["frozen"])
    np.testing.assert_array_equal(np.asarray(stored["scale"]), params["scale"])
    jax.tree.map(np.testing.assert_array_equal, load_params(tmp_path), params)


def test_chunks_are_layers_first(tmp_path, params, monkeypatch, write):
    monkeypatch.setattr(module, "CHUNK_BYTES", 240)  # one layer of the kernel
    params["embedding"] = np.ones([64, 8], np.float32)
    write(tmp_path, params)
    stored = stored_params(tmp_path)
    assert stored["layers"]["kernel"]._chunk_shape == (1, 6, 10)
    assert stored["embedding"]._chunk_shape == (4, 8)  # not row by row


def test_parameters_that_cannot_be_written_say_so(tmp_path, params, monkeypatch):
    async def fail(self, values, infos, args=None):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.OneByOne, "serialize", fail)
    with pytest.raises(CheckpointError, match="the disk is full; free space and run again"):
        save_params(tmp_path, params, {})
    assert newest_step(tmp_path) is None


def test_a_part_is_read_by_its_slices(write, tmp_path, params):
    write(tmp_path, params)
    stored = stored_params(tmp_path)
    for path, index in (
        (("layers", "kernel"), (slice(2, 5), slice(None), slice(3, 9))),
        (("layers", "frozen"), (slice(None), slice(4, None))),
        (("scale",), (slice(1, 4),)),
    ):
        array, expected = stored, params
        for name in path:
            array, expected = array[name], expected[name]
        np.testing.assert_array_equal(array[index], expected[index])
