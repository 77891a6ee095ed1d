"""`codet5p cache`: tokenises a corpus once, into SeqIO's offline cache of all tasks."""

import argparse
import time

from codet5p_jax.progress import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p cache`."""
    parser.add_argument("--corpus", required=True, help="directory of the corpus")
    parser.add_argument("--tokenizer", required=True, help="directory of the tokenizer")
    parser.add_argument("--out", required=True, help="directory to write the cache to")
    parser.add_argument(
        "--num_files",
        type=int,
        default=8,
        help="record files per split; best a multiple of the virtual shards (default: 8)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the cache of every task; those that are complete are left alone."""
    import seqio

    import tasks
    from codet5p_jax.data.offline_cache import OfflineCache
    from codet5p_jax.tokenizer import load_tokenizer

    start = time.monotonic()
    tasks.register(arguments.corpus, arguments.tokenizer)
    origin = tasks.origin(arguments.corpus, load_tokenizer(arguments.tokenizer))
    names = dict.fromkeys(  # each once, though several mixtures may draw from it
        task.name for mixture in tasks.MIXTURES for task in seqio.MixtureRegistry.get(mixture).tasks
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
    print(f"Cache of {len(names)} tasks in {arguments.out} ({time.monotonic() - start:.0f} s)")
