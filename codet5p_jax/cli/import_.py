"""`codet5p import`: a folder in Hugging Face format becomes a MODEL_DIR to start training from."""

import argparse
import pathlib

from codet5p_jax.interop.folders import replacing_folder
from codet5p_jax.interop.huggingface import (
    described,
    import_model,
    models_tokenizer,
    read_config,
)
from codet5p_jax.tokenizer import load_tokenizer
from codet5p_jax.training.checkpoints import newest_step, save_params


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p import` to `parser`."""
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="DIR",
        help="folder with config.json, safetensors (or, with torch installed, .bin), tokenizer",
    )
    parser.add_argument("--out", required=True, metavar="MODEL_DIR", help="directory to write")


def run(arguments: argparse.Namespace) -> None:
    """Writes checkpoint_0 and the tokenizer; an existing checkpoint is never overwritten."""
    out = pathlib.Path(arguments.out).absolute()
    if newest_step(out) is not None:
        raise ValueError(
            f"{out} already holds checkpoint_{newest_step(out)}; nothing was overwritten. "
            "Choose a new directory for --out."
        )
    _, config = described(arguments.source, read_config(arguments.source))
    tokenizer = load_tokenizer(arguments.source)
    models_tokenizer(tokenizer, config)  # before gigabytes are read
    with replacing_folder(out, replaceable=()) as folder:
        params, config = import_model(arguments.source)
        tokenizer.save(folder / "tokenizer")
        path = save_params(
            folder,
            params,
            {
                "model": config.to_dict(),
                "tokenizer": {
                    "path": str(out / "tokenizer"),
                    "fingerprint": tokenizer.fingerprint,
                },
                "imported_from": pathlib.Path(arguments.source).resolve().name,
            },
        )
    print(
        f"Imported {config.num_parameters():,} parameters from {arguments.source} to "
        f"{out / path.name}. Train from them with --gin.INITIAL_CHECKPOINT_PATH={arguments.out}."
    )
