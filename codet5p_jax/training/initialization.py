"""Where a run's parameters come from: scratch, or another model's checkpoint made to fit."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import struct, traverse_util

from codet5p_jax.training.json_files import write_json
from codet5p_jax.typing import PyTree

Path = tuple[str, ...]
ORIGIN_FILE = "initial_checkpoint.json"
VOCABULARY = {  # path -> axis of the vocabulary; halves of other families have their own
    ("token_embedder", "embedding"): 0,
    ("lm_head", "kernel"): 1,
    ("encoder", "token_embedder", "embedding"): 0,
    ("decoder", "token_embedder", "embedding"): 0,
    ("decoder", "lm_head", "kernel"): 1,
    ("decoder", "lm_head", "bias"): 0,
}


class Transfer(struct.PyTreeNode):
    """Parameters taken over from a checkpoint, and what was not in it.

    Attributes:
        params: Those that were taken, in the shape of the run: a part of its tree.
        fresh: Paths of the others, which are drawn, with slashes.
        unused: Paths of the checkpoint that the run has no place for.
        extended_rows: Vocabulary rows set to the mean row, first and end; equal when none.
    """

    params: PyTree
    fresh: list[str] = struct.field(pytree_node=False)
    unused: list[str] = struct.field(pytree_node=False)
    extended_rows: tuple[int, int] = struct.field(pytree_node=False)

    def summary(self) -> dict[str, Any]:
        """Returns what to tell the user: what is new, what found no place, what was added."""
        return {"fresh": self.fresh, "unused": self.unused, "extended_rows": self.extended_rows}


def language_models(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what `codet5p init` recorded of the language models that a checkpoint was made of.

    None: it was made of none. Runs pass the record on to those that begin from them.

    Args:
        metadata: Of the checkpoint.
    """
    origin = metadata.get("initial_checkpoint") or {}
    return metadata.get("initialized_from") or origin.get("initialized_from")


def write_origin(
    model_dir: str | pathlib.Path, source: str, transfer: Transfer, *, metadata: Mapping[str, Any]
) -> None:
    """Writes down in MODEL_DIR where its parameters come from, for the metadata of checkpoints.

    Args:
        model_dir: MODEL_DIR of the run.
        source: That of the checkpoint.
        transfer: What was taken over.
        metadata: Of the checkpoint.
    """
    origin = {"path": os.path.abspath(source), **transfer.summary()}
    if halves := language_models(metadata):
        origin["initialized_from"] = halves
    write_json(pathlib.Path(model_dir) / ORIGIN_FILE, origin)


def forget_origin(model_dir: str | pathlib.Path) -> None:
    """Removes what `write_origin` wrote, if anything."""
    (pathlib.Path(model_dir) / ORIGIN_FILE).unlink(missing_ok=True)


def read_origin(model_dir: str | pathlib.Path) -> dict[str, Any] | None:
    """Returns what `write_origin` wrote, or None for a run from scratch."""
    path = pathlib.Path(model_dir) / ORIGIN_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def transfer_params(
    target: PyTree, source: PyTree, *, vocab_size: int, source_vocab_size: int
) -> Transfer:
    """Returns every parameter of `source` that has a place in `target`.

    Where the vocabulary grew (stage 2 adds three task tokens), new rows become the mean row.

    Args:
        target: Parameters of the run, or their shapes.
        source: Parameters of a checkpoint; nothing is read of those whose shape fits.
        vocab_size: Rows of the run's vocabulary that have a meaning.
        source_vocab_size: The same of the checkpoint.

    Raises:
        ValueError: When a parameter of both has different shapes, or the vocabulary shrank.
    """
    if vocab_size < source_vocab_size:
        raise ValueError(
            f"The initial checkpoint has a vocabulary of {source_vocab_size}, the model "
            f"{vocab_size}; set vocab_size of the model to {source_vocab_size} or more."
        )
    new: dict[Path, Any] = traverse_util.flatten_dict(target)
    old: Mapping[Path, Any] = traverse_util.flatten_dict(source)
    taken = {}
    for path, value in new.items():
        if path not in old:
            continue
        taken[path] = old[path]
        if path in VOCABULARY and source_vocab_size != vocab_size:
            taken[path] = _extended(
                old[path], value.shape, VOCABULARY[path], source_vocab_size, vocab_size
            )
        if taken[path].shape != value.shape:
            raise ValueError(
                f"{'/'.join(path)} has shape {old[path].shape} in the initial checkpoint and "
                f"{value.shape} in the model; use the checkpoint's model file."
            )
    if not taken:
        raise ValueError(
            f"The initial checkpoint shares no parameter with the model; it holds "
            f"{', '.join(sorted({path[0] for path in old}))}."
        )
    return Transfer(
        params=traverse_util.unflatten_dict(taken),
        fresh=sorted("/".join(path) for path in new.keys() - old.keys()),
        unused=sorted("/".join(path) for path in old.keys() - new.keys()),
        extended_rows=(source_vocab_size, vocab_size),
    )


def _extended(old: Any, shape: tuple[int, ...], axis: int, old_size: int, size: int) -> np.ndarray:
    """Returns the vocabulary parameter with rows old_size..size set to the mean row."""
    real = np.take(np.asarray(old), np.arange(old_size), axis=axis)
    mean = real.mean(axis=axis, keepdims=True)
    added = np.repeat(mean, size - old_size, axis=axis)
    padding = np.repeat(np.zeros_like(mean), shape[axis] - size, axis=axis)
    return np.concatenate([real, added, padding], axis=axis).astype(real.dtype)
