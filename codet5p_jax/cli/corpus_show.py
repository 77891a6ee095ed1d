"""`codet5p corpus show`: what a corpus holds, in the terminal and as one HTML page."""

import argparse
import os
import pathlib

WIDTH_OF_FILES = 160  # characters of a line that goes to a file or a pipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p corpus show`."""
    parser.add_argument("corpus_dir", help="directory of the corpus")
    parser.add_argument("--sources", action="store_true", help="list every source")
    parser.add_argument("--seed", type=int, default=0, help="of the examples (default: 0)")
    parser.add_argument(
        "--html",
        metavar="PATH",
        type=os.path.expanduser,
        help="write a page that refers to nothing outside itself",
    )
    parser.add_argument("--verify", action="store_true", help="read every record and check it")


def run(arguments: argparse.Namespace) -> int:
    """Prints the tables and writes the page.

    Raises:
        FileNotFoundError: There is no whole corpus in the directory.
        DamagedRecordsError: A file of records is cut short or altered.
    """
    from rich.console import Console
    from rich.text import Text

    from codet5p_jax.cli.corpus_page import write_page
    from codet5p_jax.cli.corpus_tables import corpus_tables, source_table
    from codet5p_jax.corpus.datasets import verify
    from codet5p_jax.corpus.examples import draw_pairs
    from codet5p_jax.corpus.manifest import read_manifest

    manifest = read_manifest(arguments.corpus_dir)
    pairs = draw_pairs(arguments.corpus_dir, seed=arguments.seed)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    with console.capture() as captured:
        console.print(corpus_tables(manifest, pairs, width=console.width))
        if arguments.sources:
            console.print(source_table(manifest), Text())
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
    if arguments.html:
        write_page(pathlib.Path(arguments.html), manifest, pairs)
        print(f"Page: {arguments.html}")
    if arguments.verify:
        print(f"{verify(arguments.corpus_dir):,} records read, all whole.")
    return 0
