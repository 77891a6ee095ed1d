"""`codet5p import`: a folder in Hugging Face format becomes a MODEL_DIR to start training from."""

import argparse
import pathlib

from codet5p_jax.interop.huggingface import fitting_tokenizer, import_model
from codet5p_jax.tokenizer import CodeTokenizer
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
    out = pathlib.Path(arguments.out)
    if newest_step(out) is not None:
        raise ValueError(
            f"{out} already holds checkpoint_{newest_step(out)}; nothing was overwritten. "
            "Choose a new directory for --out."
        )
    params, config = import_model(arguments.source)
    tokenizer = CodeTokenizer.from_directory(arguments.source)
    fitting_tokenizer(tokenizer, config.vocab_size)
    tokenizer.save(out / "tokenizer")
    path = save_params(
        out.absolute(),
        params,
        {
            "model": config.to_dict(),
            "tokenizer": {
                "path": str((out / "tokenizer").absolute()),
                "fingerprint": tokenizer.fingerprint,
            },
            "imported_from": pathlib.Path(arguments.source).resolve().name,
        },
    )
    print(
        f"Imported {config.num_parameters():,} parameters from {arguments.source} to {path}. "
        f"Train from them with --gin.INITIAL_CHECKPOINT_PATH={out}."
    )
