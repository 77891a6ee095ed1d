"""Checkpoints: one directory per step with the train state, the data position and metadata."""

import errno
import json
import pathlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

from codet5p_jax.training.multihost import ALONE, Processes
from codet5p_jax.training.state import TrainState
from codet5p_jax.training.stored_arrays import params_handler, save_args, stored_arrays
from codet5p_jax.typing import PyTree

PREFIX = "checkpoint"
SHOWN_FOLDERS = 5  # in an error
UNREADABLE = "unreadable_"  # before the name of a checkpoint that was skipped
_NO_POSITION = {"no_stream": np.zeros(1, np.int32)}  # Orbax refuses an empty item
DataState = Mapping[str, Any]  # stream name -> arrays of its iterator's position


class CheckpointError(Exception):
    """A checkpoint that could not be written or read; the message says which and what to do."""


class Checkpoints:
    """The checkpoints of one MODEL_DIR, written while training goes on.

    Of several processes each writes its parts of the arrays, and the first all else; the directory
    must be one that all of them see.
    """

    def __init__(
        self, model_dir: str | pathlib.Path, *, keep: int | None = 2, processes: Processes = ALONE
    ) -> None:
        """Opens the directory, and makes it where it is missing.

        Args:
            model_dir: MODEL_DIR; checkpoint_<step>/ are made in it.
            keep: Newest checkpoints to keep; None keeps all.
            processes: All of the run, each of which opens the directory.
        """
        self._processes = processes
        self._dir = pathlib.Path(model_dir).absolute()
        self._manager = ocp.CheckpointManager(
            self._dir,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                step_prefix=PREFIX,
                cleanup_tmp_directories=True,
                enable_async_checkpointing=True,
            ),
            item_names=("state", "data", "metadata"),
        )

    def save(
        self, state: TrainState, data: DataState, metadata: Mapping[str, Any], *, step: int
    ) -> None:
        """Starts writing a checkpoint; `step` is that of the state.

        Raises:
            CheckpointError: When this or the previous write failed, a full disk for example.
        """
        if step in self._manager.all_steps():
            return
        storable = _storable(state)
        with _explained(self._dir, step):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(storable, save_args=save_args(storable)),
                    data=ocp.args.StandardSave(dict(data) or _NO_POSITION),
                    metadata=ocp.args.JsonSave(dict(metadata)),
                ),
                force=True,
            )

    def wait(self) -> None:
        """Returns when all checkpoints are on disk.

        Raises:
            CheckpointError: When a write failed.
        """
        with _explained(self._dir, None):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def restore_newest(self, like: TrainState) -> tuple[TrainState, DataState, int] | None:
        """Returns (state, data position, step) of the newest readable checkpoint, or None.

        A checkpoint that cannot be read is skipped with a warning that names it, and renamed, so
        that the run can write that step again.

        Args:
            like: State of the same structure, of arrays or of shapes with shardings.

        Raises:
            CheckpointError: There are checkpoints, and none of them can be read.
        """
        skipped: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._restore(step, like)
                reason = ""
            except Exception as error:  # whatever a damaged file raises: the next is tried
                reason = f"{type(error).__name__}: {str(error)[:500]}"
            if self._processes.all_agree(not reason):
                self._set_aside(skipped)
                return restored
            skipped[step] = reason or "another process cannot read it; see its output"
        if skipped:
            raise CheckpointError(
                f"{self._dir} holds {', '.join(f'{PREFIX}_{step}' for step in skipped)}, and none "
                "can be read. Either all are damaged, or this run has another optimizer, queue, "
                "curriculum or PARAMETER_RULES than theirs: go back to the settings in its "
                "config.gin, or start in another MODEL_DIR with "
                f"INITIAL_CHECKPOINT_PATH={self._dir}. The newest says: "
                f"{next(iter(skipped.values()))}"
            )
        return None

    def _set_aside(self, skipped: Mapping[int, str]) -> None:
        if not skipped:
            return
        self._processes.on_first(lambda: self._rename(skipped))
        self._manager.reload()

    def _rename(self, skipped: Mapping[int, str]) -> None:
        for step, reason in skipped.items():
            path = self._dir / f"{PREFIX}_{step}"
            path.rename(path.with_name(f"{UNREADABLE}{path.name}"))
            warnings.warn(
                f"Skipping {path}, which cannot be read and is now called {UNREADABLE}{path.name}: "
                f"{reason}",
                stacklevel=3,
            )

    def _restore(self, step: int, like: TrainState) -> tuple[TrainState, DataState, int]:
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(_storable(like)),
            data=ocp.args.StandardRestore(),
            metadata=ocp.args.JsonRestore(),
        )
        restored = self._manager.restore(step, args=args)
        positions = {k: v for k, v in restored["data"].items() if k not in _NO_POSITION}
        return _usable(restored["state"], like), positions, step

    def close(self) -> None:
        """Waits for writes and frees the directory."""
        self._manager.close()


def newest_step(model_dir: str | pathlib.Path) -> int | None:
    """Returns the newest step that MODEL_DIR has a whole checkpoint of, or None."""
    steps = [
        int(path.name.removeprefix(f"{PREFIX}_"))
        for path in pathlib.Path(model_dir).glob(f"{PREFIX}_*")
        if path.name.removeprefix(f"{PREFIX}_").isdigit() and (path / "metadata").exists()
    ]
    return max(steps, default=None)


def load_params(model_dir: str | pathlib.Path, step: int | None = None) -> PyTree:
    """Returns the parameters of a checkpoint as a nested dict of numpy arrays.

    Args:
        model_dir: MODEL_DIR of a run or of an import.
        step: Which checkpoint; None means the newest.

    Raises:
        FileNotFoundError: When there is no such checkpoint.
    """
    path = _checkpoint_path(model_dir, step) / "state"
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path).item_metadata.tree
        wanted = {"params": tree["params"]}
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        restored = checkpointer.restore(
            path, args=ocp.args.PyTreeRestore(item=wanted, restore_args=args, partial_restore=True)
        )
    return restored["params"]


def stored_params(model_dir: str | pathlib.Path, step: int | None = None) -> PyTree:
    """Returns the parameters of a checkpoint, each read when it is indexed; see `load_params`."""
    return stored_arrays(_checkpoint_path(model_dir, step) / "state", item="params")


def load_metadata(model_dir: str | pathlib.Path, step: int | None = None) -> dict[str, Any]:
    """Returns the metadata of a checkpoint: model, tokenizer, corpus, versions, mesh.

    Raises:
        FileNotFoundError: When there is no such checkpoint.
    """
    return json.loads((_checkpoint_path(model_dir, step) / "metadata" / "metadata").read_text())


def save_params(
    model_dir: str | pathlib.Path, params: PyTree, metadata: Mapping[str, Any], *, step: int = 0
) -> pathlib.Path:
    """Writes parameters without an optimizer state, as an initial checkpoint; returns its path.

    Needs little memory beside the parameters: they are written one after the other.

    Raises:
        CheckpointError: When it cannot be written.
    """
    folder = pathlib.Path(model_dir).absolute()
    state = TrainState(
        step=jnp.int32(step), params=params, opt_state={}, objective_state={}, rng=jax.random.key(0)
    )
    storable = jax.tree.map(np.asarray, _storable(state))
    with (
        _explained(folder, step),
        ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(
                step_prefix=PREFIX, cleanup_tmp_directories=True, enable_async_checkpointing=False
            ),
            item_handlers={
                "state": params_handler(),
                "data": ocp.StandardCheckpointHandler(),
                "metadata": ocp.JsonCheckpointHandler(),
            },
        ) as manager,
    ):
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(storable, save_args=save_args(storable)),
                data=ocp.args.StandardSave(_NO_POSITION),
                metadata=ocp.args.JsonSave(dict(metadata)),
            ),
        )
    return _checkpoint_path(model_dir, step)


def _checkpoint_path(model_dir: str | pathlib.Path, step: int | None) -> pathlib.Path:
    found = newest_step(model_dir) if step is None else step
    path = pathlib.Path(model_dir).absolute() / f"{PREFIX}_{found}"
    if found is None or not path.is_dir():
        raise FileNotFoundError(f"{model_dir} {_lacks(pathlib.Path(model_dir), step)}")
    return path


def _lacks(folder: pathlib.Path, step: int | None) -> str:
    """Returns what a folder without the wanted checkpoint is instead, and what to give."""
    give = "Give the MODEL_DIR of a training run"
    if not folder.is_dir():
        if folder.exists():
            return f"is a file. {give}."
        return f"does not exist. {give}; a model on a hub is downloaded first."
    present = sorted(path.name for path in folder.glob(f"{PREFIX}_*"))
    if present:
        wanted = "<step>" if step is None else step
        return f"holds no {PREFIX}_{wanted}; it holds {', '.join(present)}. {give}."
    if (folder / "config.json").exists():
        return (
            "is a folder in Hugging Face format. Make a MODEL_DIR of it with "
            f"`codet5p import --from={folder} --out=MODEL_DIR`."
        )
    below = sorted({str(path.parent) for path in folder.glob(f"*/{PREFIX}_*")})
    if below:
        more = ", ..." if len(below) > SHOWN_FOLDERS else ""
        return (
            f"holds no checkpoint, but folders in it do: {', '.join(below[:SHOWN_FOLDERS])}{more}. "
            "Give one of them."
        )
    return f"holds no checkpoint. {give}."


def _storable(state: TrainState) -> TrainState:
    """Returns `state` as Orbax can write it.

    The typed random key becomes its numbers; an array without elements, such as the queue of
    size 0, becomes one zero, since Orbax refuses it.
    """
    return jax.tree.map(
        lambda leaf: leaf if leaf.size else _one_zero(leaf),
        state.replace(rng=_numbers(state.rng)),
    )


def _one_zero(leaf: jax.Array | jax.ShapeDtypeStruct) -> np.ndarray | jax.ShapeDtypeStruct:
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return np.zeros([1], leaf.dtype)
    sharding = leaf.sharding  # a shape, so that Orbax compares it with what is stored
    if isinstance(sharding, NamedSharding):
        sharding = NamedSharding(sharding.mesh, PartitionSpec())
    return jax.ShapeDtypeStruct((1,), leaf.dtype, sharding=sharding)


def _numbers(rng: jax.Array | jax.ShapeDtypeStruct) -> jax.Array | jax.ShapeDtypeStruct:
    if isinstance(rng, jax.ShapeDtypeStruct):
        data = jax.eval_shape(jax.random.key_data, rng)
        return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=rng.sharding)
    return jax.random.key_data(rng)


def _usable(state: TrainState, like: TrainState) -> TrainState:
    state = state.replace(rng=jax.random.wrap_key_data(state.rng))
    return jax.tree.map(
        lambda leaf, wanted: leaf if wanted.size else jnp.zeros(wanted.shape, wanted.dtype),
        state,
        like,
    )


@contextmanager
def _explained(model_dir: pathlib.Path, step: int | None) -> Iterator[None]:
    """Turns what a failed write raises into a CheckpointError that says what to do."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        full = full or "RESOURCE_EXHAUSTED" in str(error)
        what = "the disk is full; free space and run again" if full else "see the error above"
        at = f" at step {step}" if step is not None else ""
        newest = newest_step(model_dir)
        kept = "no checkpoint exists yet"
        if newest is not None:
            kept = f"{PREFIX}_{newest} is intact; the run continues from there"
        raise CheckpointError(
            f"Could not write a checkpoint to {model_dir}{at}: {what}. {kept}. "
            f"({type(error).__name__}: {str(error)[:300]})"
        ) from error
