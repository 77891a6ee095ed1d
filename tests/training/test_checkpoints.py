"""Tests of codet5p_jax.training.checkpoints."""

import errno
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    load_metadata,
    load_params,
    newest_step,
    save_params,
)
from codet5p_jax.training.state import TrainState

PARAMS = {"encoder": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}


def test_parameters_alone_come_back_bit_for_bit(tmp_path):
    path = save_params(tmp_path, PARAMS, {"model": {"vocab_size": 7}}, step=3)
    assert path.name == "checkpoint_3" and newest_step(tmp_path) == 3
    loaded = load_params(tmp_path)
    np.testing.assert_array_equal(loaded["encoder"]["kernel"], PARAMS["encoder"]["kernel"])
    assert load_metadata(tmp_path)["model"] == {"vocab_size": 7}


def test_a_folder_without_checkpoint_says_what_it_holds(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no checkpoint\. Give the MODEL_DIR of a"):
        load_params(tmp_path)
    save_params(tmp_path, PARAMS, {}, step=3)
    with pytest.raises(FileNotFoundError, match=r"holds no checkpoint_5; it holds checkpoint_3"):
        load_metadata(tmp_path, step=5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope", r"nope does not exist\. Give the MODEL_DIR .* model on a hub is downloaded first"),
        ("file", r"file is a file\. Give the MODEL_DIR"),
        ("export", r"export is a folder in Hugging Face format\. .*import --from=\S+/export --out"),
        ("runs", r"runs holds no checkpoint, but folders in it do: \S+/one, \S+/two\. Give one"),
    ],
)
def test_a_folder_that_is_no_model_dir_says_what_it_is(tmp_path, name, message):
    (tmp_path / "file").touch()
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "config.json").write_text("{}")
    for run in ("one", "two"):
        (tmp_path / "runs" / run / "checkpoint_3").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=message):
        load_metadata(tmp_path / name)


def test_a_half_written_checkpoint_is_no_checkpoint(tmp_path):
    save_params(tmp_path, PARAMS, {}, step=3)
    (tmp_path / "checkpoint_9.orbax-checkpoint-tmp-1" / "state").mkdir(parents=True)
    assert newest_step(tmp_path) == 3
    np.testing.assert_array_equal(load_params(tmp_path)["encoder"]["kernel"].shape, (2, 3))


def test_a_full_disk_is_told_apart_and_the_earlier_checkpoint_named(tmp_path, monkeypatch):
    save_params(tmp_path, PARAMS, {}, step=3)
    checkpoints = Checkpoints(tmp_path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints._manager, "wait_until_finished", full)
    with pytest.raises(CheckpointError, match=r"disk is full.* checkpoint_3 is intact"):
        checkpoints.wait()
    monkeypatch.undo()
    checkpoints.close()


def test_a_state_with_an_empty_array_comes_back(tmp_path):
    """Orbax writes no array without elements; the queue of size 0 is one."""
    queue = {"features": jnp.zeros([0, 4]), "pointer": jnp.int32(2)}
    state = TrainState(jnp.int32(5), PARAMS, {}, {"pairs": queue}, jax.random.key(3))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state, {"pairs": np.ones(1)}, {}, step=5)
    checkpoints.wait()
    restored, _, step = checkpoints.restore_newest(state)
    checkpoints.close()
    assert step == 5 and restored.objective_state["pairs"]["features"].shape == (0, 4)
    assert int(restored.objective_state["pairs"]["pointer"]) == 2
    np.testing.assert_array_equal(jax.random.key_data(restored.rng), jax.random.key_data(state.rng))
