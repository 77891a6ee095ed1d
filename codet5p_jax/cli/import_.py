"""`codet5p import`: a folder in Hugging Face format becomes a MODEL_DIR to start training from."""

import argparse
import pathlib

from codet5p_jax.cli.model_start import check_new, how_to_train, write_start
from codet5p_jax.interop.huggingface import (
    described,
    import_model,
    read_config,
)
from codet5p_jax.interop.model_tokenizer import models_tokenizer
from codet5p_jax.tokenizer import load_tokenizer


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
    check_new(out)
    _, config = described(arguments.source, read_config(arguments.source))
    tokenizer = load_tokenizer(arguments.source)
    models_tokenizer(tokenizer, config)  # before gigabytes are read
    path = write_start(
        out,
        lambda: import_model(arguments.source)[0],
        config=config,
        tokenizer=tokenizer,
        origin={"imported_from": pathlib.Path(arguments.source).resolve().name},
    )
    print(
        f"Imported {config.num_parameters():,} parameters from {arguments.source} to "
        f"{path}. {how_to_train(arguments.out)}"
    )
