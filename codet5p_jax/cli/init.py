"""`codet5p init`: two language models in Hugging Face format become a CodeT5+ to train."""

import argparse
import pathlib

from codet5p_jax.cli.model_start import check_new, how_to_train, write_start
from codet5p_jax.interop.joining import Joined, join


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p init` to `parser`."""
    folder = "folder of a CodeGen, a Llama or a T5: config.json, safetensors (or .bin), tokenizer"
    parser.add_argument("--encoder", required=True, metavar="DIR", help=folder)
    parser.add_argument(
        "--decoder", required=True, metavar="DIR", help="the same; its language model is to stay"
    )
    parser.add_argument("--out", required=True, metavar="MODEL_DIR", help="directory to write")
    parser.add_argument(
        "--cross_attention_layers",
        type=int,
        default=1,
        metavar="N",
        help="top layers of the decoder that gain cross-attention (default: %(default)s)",
    )
    parser.add_argument(
        "--tokenizer", metavar="DIR", help="tokenizer, where neither folder holds one"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the new parameters (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes checkpoint_0 and the tokenizer; an existing checkpoint is never overwritten."""
    out = pathlib.Path(arguments.out).absolute()
    check_new(out)
    joined = join(
        arguments.encoder,
        arguments.decoder,
        cross_attention_layers=arguments.cross_attention_layers,
        tokenizer=arguments.tokenizer,
        seed=arguments.seed,
    )
    for line in _new_rows(joined):
        print(line)
    config = joined.config
    path = write_start(
        out,
        joined.params,
        config=config,
        tokenizer=joined.tokenizer,
        origin={"initialized_from": joined.origin},
    )
    print(
        f"Made {config.num_parameters():,} parameters from {arguments.encoder} "
        f"({config.num_encoder_layers} layers) and {arguments.decoder} "
        f"({config.num_decoder_layers} layers) in {path}. "
        f"{how_to_train(arguments.out)}"
    )


def _new_rows(joined: Joined) -> list[str]:
    return [
        f"The vocabulary of the {side} grows by {rows:,} rows to {joined.config.vocab_size:,}, for "
        f"the {joined.tokenizer.vocab_size:,} ids of the tokenizer with sentinels and task tokens "
        "or for the rows of the other half; they begin as the mean of the others."
        for side, rows in joined.new_rows.items()
        if rows
    ]
