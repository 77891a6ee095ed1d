"""`codet5p tokenizer train`: a byte-level BPE of a corpus."""

import argparse
import time

from codet5p_jax.progress import track


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p tokenizer`."""
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a tokenizer on a corpus")
    train.add_argument("--corpus", required=True, help="directory of the corpus")
    train.add_argument("--out", required=True, help="directory to write the tokenizer to")
    train.add_argument("--vocab_size", type=int, default=32_000, help="entries (default: 32000)")
    train.add_argument(
        "--min_frequency", type=int, default=3, help="rarer pairs are not merged (default: 3)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Trains and saves the tokenizer."""
    from codet5p_jax.data.texts import corpus_texts
    from codet5p_jax.tokenizer import train_tokenizer

    start = time.monotonic()
    texts = track(corpus_texts(arguments.corpus), "reading texts", unit="texts")
    tokenizer = train_tokenizer(texts, arguments.vocab_size, min_frequency=arguments.min_frequency)
    tokenizer.save(arguments.out)
    print(
        f"Tokenizer of {tokenizer.base_size:,} entries and {tokenizer.vocab_size:,} ids, "
        f"fingerprint {tokenizer.fingerprint}, in {arguments.out} "
        f"({time.monotonic() - start:.0f} s)"
    )
