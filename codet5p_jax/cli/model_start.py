"""A MODEL_DIR that training starts from: checkpoint_0, tokenizer, model.gin; whole or absent."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from codet5p_jax.interop.folders import replacing_folder
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig, ModelConfig
from codet5p_jax.tokenizer import Tokenizer
from codet5p_jax.training.checkpoints import CheckpointError, newest_step, save_params
from codet5p_jax.typing import PyTree

MODEL_GIN = "model.gin"
# How a model is computed, not what it is; the activation is the usual one of a gated block or not.
_EXECUTION = ("scan_unroll", "remat_policy", "attention", "dtype", "activation")


def how_to_train(out: str) -> str:
    """Returns what to add to a recipe to train from `out`."""
    return (
        f"Train from them with --gin.INITIAL_CHECKPOINT_PATH={out}, and with "
        f"--gin_file={out}/{MODEL_GIN} behind a recipe of another shape."
    )


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
) -> pathlib.Path:
    """Writes checkpoint_0, the tokenizer, and the model as a gin file.

    Args:
        out: MODEL_DIR; new or empty.
        params: Reads the parameters. What it raises leaves nothing behind.
        config: Config of the model.
        tokenizer: Its tokenizer.
        origin: Where the parameters come from, for the metadata.

    Returns:
        The folder of the checkpoint.

    Raises:
        CheckpointError: The checkpoint cannot be written.
        ValueError: `out` holds files.
    """
    with replacing_folder(out, replaceable=()) as folder:
        tokenizer.save(folder / "tokenizer")
        metadata = {
            "model": config.to_dict(),
            "tokenizer": {"path": str(out / "tokenizer"), "fingerprint": tokenizer.fingerprint},
            **origin,
        }
        try:
            path = save_params(folder, params(), metadata)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(folder), str(out))) from error
        (folder / MODEL_GIN).write_text(model_gin(config), encoding="utf-8")
    return out / path.name


def model_gin(config: ModelConfig) -> str:
    """Returns a gin file that describes the model, for a run that starts from it."""
    halves = {}
    if isinstance(config, EncoderDecoderConfig):
        halves = {"encoder": config.encoder, "decoder": config.decoder}
    names = {side: _configurable(half) for side, half in halves.items()}
    whole = _configurable(config)
    modules = {name.partition(".")[0] for name in (whole, *names.values())}
    lines = [
        "# The model of this folder, for a run with INITIAL_CHECKPOINT_PATH: behind its recipe.",
        "from __gin__ import dynamic_registration",
        *(f"from codet5p_jax.models import {module}" for module in sorted({"codet5p", *modules})),
        "",
        "MODEL = @codet5p.CodeT5p()",
        f"codet5p.CodeT5p.config = @{whole}()",
        f"{whole}:",
        *(f"  {side} = @{side}/{name}()" for side, name in names.items()),
        *_bindings(config, without=tuple(halves)),
    ]
    for side, half in halves.items():
        lines += [f"{side}/{names[side]}:", *_bindings(half)]
    return "\n".join(lines) + "\n"


def _configurable(config: Any) -> str:
    """Returns what gin calls the class of a config, such as codegen.CodeGenConfig."""
    return f"{type(config).__module__.rpartition('.')[2]}.{type(config).__name__}"


def _bindings(config: Any, *, without: tuple[str, ...] = ()) -> Iterator[str]:
    for field in dataclasses.fields(config):
        if field.name not in (*_EXECUTION, *without):
            yield f"  {field.name} = {getattr(config, field.name)!r}"
