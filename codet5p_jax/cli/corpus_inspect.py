"""`codet5p corpus inspect`: records of a corpus, drawn at random."""

import argparse
from collections.abc import Mapping

from pygments.lexers import get_lexer_by_name
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from codet5p_jax.cli.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p corpus inspect`."""
    parser.add_argument("corpus_dir", help="directory of the corpus")
    parser.add_argument("--language", help="only records in this language")
    parser.add_argument("--n", type=int, default=5, help="how many (default: 5)")
    parser.add_argument(
        "--dataset", default="functions", help="functions or files (default: functions)"
    )
    parser.add_argument(
        "--split", default="train", help="train, validation or test (default: train)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another draws others (default: 0)")
    parser.add_argument(
        "--documented", action="store_true", help="only functions with documentation"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the records: coloured on a terminal, plain elsewhere.

    Raises:
        FileNotFoundError: There is no whole corpus in the directory.
        NoSuchRecordsError: The corpus has no such dataset, split or language.
        ValueError: If less than one record is wanted.
    """
    from codet5p_jax.corpus.examples import draw_records

    if arguments.n < 1:
        raise ValueError(f"--n is {arguments.n}; it must be 1 or more.")
    records = draw_records(
        arguments.corpus_dir,
        f"code_{arguments.dataset.removeprefix('code_')}",
        split=arguments.split,
        language=arguments.language,
        documented=arguments.documented,
        count=arguments.n,
        seed=arguments.seed,
    )
    console = Console(highlight=False)
    show = _print_coloured if console.is_terminal else _print_plain
    for record in records:
        show(console, record)
    return 0


def _print_plain(console: object, record: Mapping[str, str]) -> None:
    print("\n".join([f"==> {_where(record)} <==", *_documentation(record), record["code"], ""]))


def _print_coloured(console: Console, record: Mapping[str, str]) -> None:
    # PHP's functions lack the <?php at which its lexer would begin; the others ignore the option.
    lexer = get_lexer_by_name(record["language"], startinline=True)
    console.print(Text(f"── {printable(_where(record))}", style="bold cyan"))
    for paragraph in _documentation(record):
        console.print(Text(printable(paragraph), style="italic green"))
    code = Syntax(
        printable(record["code"]),
        lexer,
        theme="ansi_dark",
        background_color="default",
        word_wrap=True,
    )
    console.print(code, "")


def _where(record: Mapping[str, str]) -> str:
    names = ("language", "name", "repository", "path", "license", "id")
    return "  ".join(record[name] for name in names if record.get(name))


def _documentation(record: Mapping[str, str]) -> list[str]:
    return [record["docstring"], ""] if record.get("docstring") else []
