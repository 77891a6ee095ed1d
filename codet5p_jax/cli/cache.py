"""`codet5p cache`: tokenises what tasks read once, into SeqIO's offline cache of all of them."""

import argparse
import re
import time
from collections.abc import Sequence

from codet5p_jax.progress import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p cache`."""
    parser.add_argument("--corpus", help="directory of the corpus; without it, instructions alone")
    parser.add_argument("--tokenizer", required=True, help="directory of the tokenizer")
    parser.add_argument("--out", required=True, help="directory to write the cache to")
    parser.add_argument(
        "--num_files",
        type=int,
        default=8,
        help="record files per split; best a multiple of the virtual shards (default: 8)",
    )
    add_instructions(parser)


def add_instructions(parser: argparse.ArgumentParser) -> None:
    """Adds --instructions."""
    parser.add_argument(
        "--instructions",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="file of instructions in Alpaca's format, for the task instruction_NAME; repeatable",
    )


def instruction_files(pairs: Sequence[str]) -> dict[str, str]:
    """Returns name -> path of files of instructions.

    Args:
        pairs: NAME=PATH of each.

    Raises:
        ValueError: If one is of another form.
    """
    for pair in pairs:
        if not re.fullmatch(r"\w+=.+", pair):
            raise ValueError(f"--instructions={pair} is not of the form NAME=PATH.")
    return dict(pair.split("=", 1) for pair in pairs)


def run(arguments: argparse.Namespace) -> None:
    """Writes the cache of every task; those that are complete are left alone.

    Raises:
        ValueError: There is neither a corpus nor a file of instructions.
    """
    import seqio

    import tasks
    from codet5p_jax.data.offline_cache import OfflineCache
    from codet5p_jax.tokenizer import load_tokenizer

    start = time.monotonic()
    files = instruction_files(arguments.instructions)
    if not (arguments.corpus or files):
        raise ValueError("There is nothing to cache: give --corpus, or --instructions=NAME=PATH.")
    tasks.register(arguments.corpus, arguments.tokenizer, instruction_files=files)
    origin = tasks.origin(arguments.corpus, load_tokenizer(arguments.tokenizer), files)
    mixtures = [
        *(tasks.MIXTURES if arguments.corpus else []),
        *([tasks.instruction.MIXTURE] if files else []),
    ]
    names = dict.fromkeys(  # each once, though several mixtures may draw from it
        task.name for mixture in mixtures for task in seqio.MixtureRegistry.get(mixture).tasks
    )
    with progress("tokenising", unit="records") as shown:
        cache = OfflineCache(
            arguments.out,
            num_files=arguments.num_files,
            on_records=shown.advance,
            origin=origin,
        )
        for name in names:
            cache.write(seqio.TaskRegistry.get(name))
    tasks_ = f"{len(names)} task" + "s" * (len(names) != 1)
    print(f"Cache of {tasks_} in {arguments.out} ({time.monotonic() - start:.0f} s)")
