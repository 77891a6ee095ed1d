"""`codet5p tokenizer train`: a byte-level BPE of a corpus."""

import argparse
import time
from collections.abc import Mapping

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
    train.add_argument(
        "--bytes_per_language",
        type=int,
        metavar="N",
        help="code of each language to read at most, and as much documentation; 0 reads all "
        "(default: as much as a language has on average, so that none dominates)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Trains and saves the tokenizer."""
    from codet5p_jax.data.texts import corpus_texts, language_bytes
    from codet5p_jax.tokenizer import train_tokenizer

    start = time.monotonic()
    sizes = language_bytes(arguments.corpus)
    limits = byte_limits(sizes, arguments.bytes_per_language)
    texts = track(corpus_texts(arguments.corpus, limits=limits), "reading texts", unit="texts")
    tokenizer = train_tokenizer(texts, arguments.vocab_size, min_frequency=arguments.min_frequency)
    tokenizer.save(arguments.out)
    print(
        f"Tokenizer of {tokenizer.base_size:,} entries and {tokenizer.vocab_size:,} ids, "
        f"fingerprint {tokenizer.fingerprint}, in {arguments.out} "
        f"({time.monotonic() - start:.0f} s)"
    )
    print(f"It read, in MB of code: {_shares(sizes['code_files'], limits['code_files'])}")


def byte_limits(
    sizes: Mapping[str, Mapping[str, int]], bytes_per_language: int | None
) -> dict[str, int]:
    """Returns dataset -> bytes of each language to read at most.

    Args:
        sizes: Dataset -> language -> bytes that there are.
        bytes_per_language: What is wanted; 0 means all, None as much as a language has on average.
            Not as the median one has: beside a few files of two others, a language would count
            little.

    Raises:
        ValueError: If it is negative.
    """
    if bytes_per_language is not None and bytes_per_language < 0:
        raise ValueError(f"--bytes_per_language is {bytes_per_language}; it must be 0 or more.")
    if bytes_per_language is None:
        return {d: sum(s.values()) // max(len(s), 1) for d, s in sizes.items()}
    return {d: bytes_per_language or sum(s.values()) for d, s in sizes.items()}


def _shares(sizes: Mapping[str, int], limit: int) -> str:
    shares = (
        f"{language} {min(size, limit) / 1e6:.1f} of {size / 1e6:.1f}"
        for language, size in sizes.items()
    )
    return ", ".join(shares)
