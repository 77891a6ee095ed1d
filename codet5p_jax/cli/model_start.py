"""A MODEL_DIR that training starts from: checkpoint_0 and the tokenizer, whole or absent."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from codet5p_jax.interop.folders import replacing_folder
from codet5p_jax.models.encoder_decoder import ModelConfig
from codet5p_jax.tokenizer import Tokenizer
from codet5p_jax.training.checkpoints import newest_step, save_params
from codet5p_jax.typing import PyTree


def check_new(out: pathlib.Path) -> None:
    """Raises ValueError where `out` holds a checkpoint, which is never overwritten."""
    step = newest_step(out)
    if step is not None:
        raise ValueError(
            f"{out} already holds checkpoint_{step}; nothing was overwritten. "
            "Choose a new directory for --out."
        )


def write_start(
    out: pathlib.Path,
    params: Callable[[], PyTree],
    *,
    config: ModelConfig,
    tokenizer: Tokenizer,
    origin: Mapping[str, Any],
    files: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Writes checkpoint_0 and the tokenizer.

    Args:
        out: MODEL_DIR; new or empty.
        params: Reads the parameters. What it raises leaves nothing behind.
        config: Config of the model.
        tokenizer: Its tokenizer.
        origin: Where the parameters come from, for the metadata.
        files: Name -> text of what lies beside.

    Returns:
        The folder of the checkpoint.

    Raises:
        ValueError: `out` holds files.
    """
    with replacing_folder(out, replaceable=()) as folder:
        tokenizer.save(folder / "tokenizer")
        metadata = {
            "model": config.to_dict(),
            "tokenizer": {"path": str(out / "tokenizer"), "fingerprint": tokenizer.fingerprint},
            **origin,
        }
        path = save_params(folder, params(), metadata)
        for name, text in (files or {}).items():
            (folder / name).write_text(text, encoding="utf-8")
    return out / path.name
