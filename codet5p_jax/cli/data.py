"""`codet5p data preview`: examples of a task or a mixture, decoded, special tokens included.

`codet5p data instructions` is in data_instructions.py.
"""

import argparse
import ast
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from codet5p_jax.cli import cache, data_instructions, gin_config

Lengths = Callable[[str], Mapping[str, int]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `codet5p data preview` and `codet5p data instructions`."""
    commands = parser.add_subparsers(dest="command", required=True)
    preview = commands.add_parser(
        "preview", help="print decoded inputs and targets of a task", allow_abbrev=False
    )
    preview.add_argument(
        "--task", required=True, help="task or mixture, such as unimodal_seq2seq_clm"
    )
    preview.add_argument("--n", type=int, default=3, help="how many examples (default: 3)")
    preview.add_argument(
        "--split", default="train", help="train, validation or test (default: train)"
    )
    preview.add_argument("--seed", type=int, default=0, help="another gives others (default: 0)")
    preview.add_argument(
        "--lengths",
        help="tokens per feature, such as inputs=512,targets=128 (default: the recipe's, or the "
        "paper's)",
    )
    preview.add_argument(
        "--corpus_dir", "--corpus", help="directory of the corpus; instructions need none"
    )
    preview.add_argument("--tokenizer_dir", "--tokenizer", help="directory of the tokenizer")
    cache.add_instructions(preview)
    gin_config.add_arguments(preview)
    data_instructions.add_command(commands)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raises ValueError for what can be told to be wrong without reading a file."""
    if arguments.command == "instructions":
        return data_instructions.check_arguments(arguments)
    if arguments.n < 1:
        raise ValueError(f"--n is {arguments.n}; it must be 1 or more.")
    for path in arguments.gin_file:
        gin_config.check_file(path)
    given = [arguments.corpus_dir or arguments.instructions, arguments.tokenizer_dir]
    if not arguments.gin_file and (not all(given) or arguments.gin_bindings):
        raise ValueError(
            "Give --corpus_dir (or --instructions) and --tokenizer_dir, or a recipe: codet5p data "
            "preview --task=... --gin_file=recipes/quickstart_stage1.gin --gin.CORPUS_DIR=... "
            "--gin.TOKENIZER_DIR=..."
        )
    if arguments.lengths:
        parse_lengths(arguments.lengths)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command that is asked for."""
    if arguments.command == "instructions":
        return data_instructions.run(arguments)
    return preview(arguments)


def preview(arguments: argparse.Namespace) -> int:
    """Prints the examples: special tokens coloured on a terminal, plain text elsewhere.

    Raises:
        ValueError: There is no such task or split, or the lengths do not fit it.
        FileNotFoundError: Corpus, tokenizer or instructions are not there.
    """
    from rich.console import Console

    import tasks
    from codet5p_jax.data.preview import decoded_examples, default_lengths

    lengths: Lengths = default_lengths
    options = {"corpus_dir": arguments.corpus_dir, "tokenizer_dir": arguments.tokenizer_dir}
    if arguments.gin_file:
        options, lengths = _of_recipe(arguments)
    if arguments.instructions:
        options["instruction_files"] = cache.instruction_files(arguments.instructions)
    if arguments.lengths:
        lengths = functools.partial(_same_lengths, parse_lengths(arguments.lengths))
    tasks.register(**{"corpus_dir": None, **options})
    examples = decoded_examples(
        arguments.task,
        lengths=lengths,
        split=arguments.split,
        count=arguments.n,
        seed=arguments.seed,
    )
    console = Console(highlight=False)
    for number, example in enumerate(examples, start=1):
        _print(console, f"{number}  {example.task}", example.features)
    return 0


def parse_lengths(text: str) -> dict[str, int]:
    """Returns tokens per feature.

    Args:
        text: Such as inputs=512,targets=128.

    Raises:
        ValueError: It is of another form.
    """
    if not re.fullmatch(r"\w+=\d+(,\w+=\d+)*", text):
        raise ValueError(f"--lengths={text} is not of the form inputs=512,targets=128.")
    pairs = (pair.split("=") for pair in text.split(","))
    return {name: int(tokens) for name, tokens in pairs}


def _same_lengths(lengths: Mapping[str, int], task: str) -> Mapping[str, int]:
    return lengths


def _of_recipe(arguments: argparse.Namespace) -> tuple[dict[str, Any], Lengths]:
    """Returns what a recipe registers its tasks with, and the lengths that it gives them."""
    from codet5p_jax.data.preview import default_lengths

    folders = {"CORPUS_DIR": arguments.corpus_dir, "TOKENIZER_DIR": arguments.tokenizer_dir}
    bindings = [f"{name}={folder}" for name, folder in folders.items() if folder]
    # A training recipe requires a MODEL_DIR, into which nothing is written here.
    bindings = ["MODEL_DIR=none", *bindings, *arguments.gin_bindings]
    try:
        gin_config.parse(gin_files=arguments.gin_file, bindings=bindings)
    except gin_config.GinConfigError as error:
        if "defines 'MODEL_DIR'" not in str(error):
            raise
        raise ValueError(
            f"{', '.join(arguments.gin_file)} is no recipe of `codet5p train`. Give one, or "
            "--corpus_dir and --tokenizer_dir without --gin_file."
        ) from error
    values = gin_config.resolved_bindings()

    def bound(name: str) -> Any:
        found = [value for key, value in values.items() if key.endswith(f".train.{name}")]
        return ast.literal_eval(found[0]) if found else None

    options = {
        "corpus_dir": bound("corpus_dir"),
        "tokenizer_dir": bound("tokenizer_dir"),
        "temperature": bound("language_temperature"),
        "objective_rates": bound("objective_rates"),
        "mask_whole_words": bound("mask_whole_words"),
        "instruction_files": bound("instruction_files"),
    }
    known = _lengths(values)

    def lengths(task: str) -> Mapping[str, int]:
        for beginning in sorted(known, key=len, reverse=True):
            if task == beginning or task.startswith(f"{beginning}_"):
                return known[beginning]
        return default_lengths(task)

    return {name: value for name, value in options.items() if value is not None}, lengths


def _lengths(values: Mapping[str, str]) -> dict[str, Mapping[str, int]]:
    """Returns the lengths of each mixture of a recipe; examples', where its rows are packed."""
    ending = ".DatasetConfig.mixture_or_task_name"
    known: dict[str, Mapping[str, int]] = {}
    for name, mixture in values.items():
        if name.endswith(ending):
            config = name.removesuffix(".mixture_or_task_name")
            known[ast.literal_eval(mixture)] = ast.literal_eval(
                values[f"{config}.task_feature_lengths"]
            )
            examples = ast.literal_eval(values.get(f"{config}.example_lengths", "None"))
            known |= examples or {}
    return known


def _print(console: Any, heading: str, features: Any) -> None:
    from rich.text import Text

    from codet5p_jax.cli.printable import printable

    shown = printable if console.is_terminal else str
    text = Text(f"── {heading}\n", style="bold cyan" if console.is_terminal else "")
    for feature in features:
        text.append(f"{feature.name}{_size(feature.num_tokens)}\n", style="bold")
        for piece, special in feature.pieces:
            text.append(shown(piece), style="bold magenta" if special else "not bold default")
        text.append("\n")
    if console.is_terminal:
        console.print(text, soft_wrap=True)
    else:
        print(text.plain)


def _size(num_tokens: int | None) -> str:
    if num_tokens is None:
        return ""
    return f", {num_tokens:,} token" + "s" * (num_tokens != 1)
