"""`codet5p data instructions`: a small instruction set, made from the documentation of a corpus."""

import argparse
import collections
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def add_command(commands: Any) -> None:
    """Adds `instructions` to the commands of `codet5p data`."""
    parser = commands.add_parser(
        "instructions",
        help="make instructions from the documented functions of a corpus",
        description="Makes a small instruction set in Alpaca's format from documented functions: "
        "requests to write them, and to explain them. They are made from documentation, not "
        "written by people; each record says its origin and licence.",
        allow_abbrev=False,
    )
    parser.add_argument("--corpus", required=True, metavar="DIR", help="directory of the corpus")
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="a .json array, or .jsonl: a record a line"
    )
    parser.add_argument(
        "--count", type=int, default=1000, metavar="N", help="records (default: 1000)"
    )
    parser.add_argument(
        "--split", default="train", help="of the corpus: train, validation or test (default: train)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another gives others (default: 0)")


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raises what can be told to be wrong without reading a file.

    Raises:
        FileExistsError: The file to write is there already.
        ValueError: Anything else.
    """
    if arguments.count < 1:
        raise ValueError(f"--count is {arguments.count}; it must be 1 or more.")
    if not arguments.out.endswith((".json", ".jsonl")):
        raise ValueError(f"--out={arguments.out} ends with neither .json nor .jsonl.")
    if arguments.split not in ("train", "validation", "test"):
        raise ValueError(f"--split is {arguments.split!r}; it is train, validation or test.")
    if pathlib.Path(arguments.out).exists():
        raise FileExistsError(
            f"--out={arguments.out} is there already. Remove it, or name another."
        )


def run(arguments: argparse.Namespace) -> int:
    """Writes the file, and prints what it holds.

    Raises:
        FileNotFoundError: There is no corpus.
        ValueError: No instruction can be made of it.
    """
    from codet5p_jax.data.instruction import held_out_instructions
    from codet5p_jax.data.made_instructions import (
        made_instructions,
        read_functions,
        write_instructions,
    )

    start = time.monotonic()
    functions = list(read_functions(arguments.corpus, split=arguments.split))
    records = made_instructions(functions, count=arguments.count, seed=arguments.seed)
    if not records:
        raise ValueError(
            f"None of the {len(functions):,} documented functions in the split {arguments.split!r} "
            f"of {arguments.corpus} can be made an instruction: their documentation must begin "
            "with a verb, and they must have 5 to 30 lines. Build a larger corpus."
        )
    write_instructions(arguments.out, records)
    print(_summary(records, len(functions)))
    if shortage := _shortage(
        len(records),
        arguments.count,
        held_out=len(held_out_instructions({"made": arguments.out}, len(records))),
    ):
        print(shortage)
    print(f"Instructions: {arguments.out} ({time.monotonic() - start:.0f} s)")
    return 0


def _summary(records: Sequence[Mapping[str, str]], functions: int) -> str:
    asked = collections.Counter("explained" if record["input"] else "written" for record in records)
    return (
        f"{len(records):,} instructions made of {functions:,} documented functions: "
        f"{asked['written']:,} ask for a function, {asked['explained']:,} for an explanation.\n"
        f"Languages: {_counts(record['language'] for record in records)}\n"
        f"Licences: {_counts(record['license'] for record in records)}"
    )


def _shortage(records: int, asked: int, *, held_out: int) -> str:
    """Returns what there is too little of, or nothing."""
    said = []
    if records < asked:
        said.append(f"{asked:,} were asked for; the split gives {records:,} and no more.")
    if not held_out:
        said.append(
            "None of them falls into the 5% held out for validation, on which tuning is evaluated: "
            f"give a larger {'corpus' if records < asked else '--count'}."
        )
    return " ".join(said)


def _counts(names: Iterable[str]) -> str:
    counted = collections.Counter(names).most_common()
    return ", ".join(f"{name} {count:,}" for name, count in counted)
