"""Flags of `codet5p precompile`, and what is wrong with them before anything large is imported."""

import argparse
import functools
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from codet5p_jax.cli import gin_config
from codet5p_jax.training.chips import chip_of_generation
from codet5p_jax.training.slice_shapes import (
    SLICE_SHAPES,
    check_compiler,
    check_sides,
    slice_topologies,
)

Value = TypeVar("Value")
SPARE = 0.1  # of the memory, that a search leaves
REMAT_POLICIES = (  # files of gin/remat, the cheapest first
    "none",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "nothing_saveable",
)
FSDP = {"off": False, "on": True}
SEARCHES = ("search_mesh", "search_fsdp", "search_remat", "search_microbatches")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds T5X's flags, where the steps shall run, and what to find out or write."""
    gin_config.add_arguments(parser)
    parser.add_argument("--topology", help="generation and shape of a slice, such as v5e:4x4")
    parser.add_argument("--num_slices", type=int, default=1, help="slices of that shape")
    parser.add_argument("--phase", metavar="NAME", help="compile this phase alone")
    parser.add_argument("--json", metavar="PATH", help="write the figures there too")
    parser.add_argument("--html", metavar="PATH", help="write a page with the figures there")
    parser.add_argument(
        "--save", metavar="DIR", help="keep the compiled steps there, so that a run need not"
    )
    found = parser.add_argument_group("find what fits; takes some compiles, a minute or more each")
    found.add_argument(
        "--search", action="store_true", help="the cheapest MICROBATCHES, remat and mesh"
    )
    found.add_argument(
        "--smallest",
        metavar="GENERATION",
        help=f"the smallest slice of {', '.join(SLICE_SHAPES)}, in place of --topology",
    )
    found.add_argument("--spare", type=float, help="share of HBM to leave (0.1)")
    _add_search_arguments(parser)


def _add_search_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what --search tries, in place of what it would choose")

    def add(flag: str, read: Callable[[str], Any], *, expected: str, metavar: str) -> None:
        values = functools.partial(_listed, read=read, expected=expected)
        group.add_argument(flag, type=values, metavar=metavar, help=expected)

    policies = f"files of gin/remat: {', '.join(REMAT_POLICIES)}"
    numbers = "values of MICROBATCHES, such as 1,2,4"
    add("--search_mesh", _mesh, expected="meshes such as 16x1 (data x model)", metavar="16x1,8x2")
    add("--search_fsdp", FSDP.__getitem__, expected="off, on or both", metavar="off,on")
    add("--search_remat", _remat, expected=policies, metavar="NAMES")
    add("--search_microbatches", int, expected=numbers, metavar="1,2,4")


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raises ValueError for flags that do not go together, or that nothing could be made of."""
    _check_modes(arguments)
    _check_slice(arguments)
    gin_config.check_arguments(
        arguments, example="codet5p precompile --gin_file=recipes/stage1_220m.gin"
    )
    _check_outputs(arguments)
    check_compiler()


def _check_modes(arguments: argparse.Namespace) -> None:
    """Raises ValueError for flags that do not go together."""
    if bool(arguments.topology) == bool(arguments.smallest):
        raise ValueError(
            "Give the slice, --topology=v5e:4x4, or --smallest=v5e to find one of a generation; "
            "one of the two."
        )
    if arguments.search and arguments.smallest:
        raise ValueError("Give --search or --smallest: first a slice, then what to do with it.")
    if arguments.spare is not None and not (arguments.search or arguments.smallest):
        raise ValueError("--spare says what --search or --smallest shall leave; give one of them.")
    if not 0 <= spare_of(arguments) < 1:
        raise ValueError(f"--spare is {arguments.spare}; give a share of the memory, such as 0.1.")
    if arguments.save and (arguments.search or arguments.smallest):
        raise ValueError(
            "--save keeps the steps of one configuration: run precompile again with the bindings "
            "that were found, without --search and --smallest."
        )
    needless = [flag for flag in SEARCHES if getattr(arguments, flag) is not None]
    if needless and not arguments.search:
        raise ValueError(f"--{needless[0]} says what --search shall try; give --search too.")


def _check_slice(arguments: argparse.Namespace) -> None:
    """Raises ValueError for slices that there are not, before a recipe is read."""
    if arguments.num_slices < 1:
        raise ValueError(f"--num_slices is {arguments.num_slices}; give 1 or more.")
    if arguments.topology:
        chip_of_generation(arguments.topology.partition(":")[0])
        check_sides(arguments.topology)
    else:
        slice_topologies(arguments.smallest)


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Raises ValueError for what could not be written once all is compiled."""
    for flag in ("json", "html", "save"):
        if getattr(arguments, flag) == "":  # a variable of the shell that is not set
            raise ValueError(f"--{flag} is empty, so nothing would be written; give a path.")
    for flag in ("json", "html"):
        if path := getattr(arguments, flag):
            if pathlib.Path(path).is_dir():
                raise ValueError(f"--{flag} is {path}, a folder; give the path of a file.")
            _check_folder(pathlib.Path(path).parent, flag=flag, value=path)
    if arguments.save:
        _check_folder(pathlib.Path(arguments.save), flag="save", value=arguments.save)


def _check_folder(folder: pathlib.Path, *, flag: str, value: str) -> None:
    """Makes a folder, and raises ValueError where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"--{flag} is {value}, and {folder} is no folder to write to: {error.strerror}. "
            "Give a path that you may write to."
        ) from error


def spare_of(arguments: argparse.Namespace) -> float:
    """Returns the share of the memory that a search leaves."""
    return SPARE if arguments.spare is None else arguments.spare


def _listed(text: str, *, read: Callable[[str], Value], expected: str) -> Sequence[Value]:
    """Returns the values of a flag that takes several, separated by commas.

    Args:
        text: Given to it.
        read: Word -> value; raises ValueError or KeyError for a word that is none.
        expected: What to give, in words.

    Raises:
        ArgumentTypeError: A word is no value.
    """
    try:
        return [read(word.strip()) for word in text.split(",")]
    except (ValueError, KeyError) as error:
        raise argparse.ArgumentTypeError(
            f"got {text!r}; give {expected}, separated by commas."
        ) from error


def _mesh(word: str) -> tuple[int, int]:
    """Returns (data, model) of a word such as "8x2"; raises ValueError for one that is none."""
    data, model = map(int, word.split("x"))
    if min(data, model) < 1:
        raise ValueError(f"{word} has an axis without devices")
    return data, model


def _remat(word: str) -> str:
    """Returns the name of a file of gin/remat; raises GinConfigError where there is none."""
    gin_config.check_file(f"remat/{word}.gin")
    return word
