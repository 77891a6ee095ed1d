"""One checkpoint of a MODEL_DIR: parameters, config, tokenizer and metadata."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from codet5p_jax.models.encoder_decoder import ModelConfig, config_from_dict
from codet5p_jax.tokenizer import Tokenizer, load_tokenizer
from codet5p_jax.training.checkpoints import (
    load_metadata,
    load_params,
    newest_step,
    stored_params,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint.

    Attributes:
        params: Nested dict of numpy arrays, or of StoredArray.
        config: Config of the model.
        tokenizer: The tokenizer it was trained with.
        metadata: Metadata of the checkpoint.
        step: Training steps taken.
    """

    params: Mapping[str, Any]
    config: ModelConfig
    tokenizer: Tokenizer
    metadata: Mapping[str, Any]
    step: int


def load_checkpoint(
    model_dir: str | os.PathLike,
    *,
    step: int | None = None,
    tokenizer_dir: str | os.PathLike | None = None,
    stored: bool = False,
) -> Checkpoint:
    """Returns the checkpoint of `step`, the newest by default.

    Args:
        model_dir: MODEL_DIR of a run, or of an import.
        step: Which checkpoint.
        tokenizer_dir: The tokenizer, where it no longer lies where training found it.
        stored: Leave parameters on the disk; each layer is read when it is indexed.

    Raises:
        FileNotFoundError: There is no such checkpoint, or no tokenizer.
        ValueError: The tokenizer is not the one that the model was trained with.
    """
    model_dir = pathlib.Path(model_dir)
    metadata = load_metadata(model_dir, step)
    config = config_from_dict(metadata["model"])
    tokenizer = _tokenizer(model_dir, metadata.get("tokenizer"), tokenizer_dir)
    found = newest_step(model_dir) if step is None else step
    assert found is not None  # else load_metadata had raised
    return Checkpoint(
        params=stored_params(model_dir, found) if stored else load_params(model_dir, found),
        config=config,
        tokenizer=tokenizer,
        metadata=metadata,
        step=found,
    )


def recorded_path(entry: Mapping[str, Any] | None) -> pathlib.Path | None:
    """Returns the folder that an entry of the metadata, of a corpus or tokenizer, names."""
    return pathlib.Path(entry["path"]) if entry and entry.get("path") else None


def _tokenizer(
    model_dir: pathlib.Path, recorded: Mapping[str, Any] | None, given: str | os.PathLike | None
) -> Tokenizer:
    places = [given] if given else [recorded_path(recorded), model_dir / "tokenizer"]
    folders = [pathlib.Path(place) for place in places if place]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise FileNotFoundError(
            f"The tokenizer of {model_dir} is not at {' or '.join(map(str, folders))}. "
            "Say where it lies with tokenizer_dir (--tokenizer_dir=DIR)."
        )
    tokenizer = load_tokenizer(folder)
    if recorded and tokenizer.fingerprint != recorded["fingerprint"]:
        raise ValueError(
            f"{model_dir} was trained with tokenizer {recorded['fingerprint']}, but {folder} holds "
            f"{tokenizer.fingerprint}. Give the tokenizer of the training as tokenizer_dir "
            "(--tokenizer_dir=DIR; --tokenizer=DIR of codet5p eval)."
        )
    return tokenizer
