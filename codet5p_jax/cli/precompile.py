"""`codet5p precompile`: whether a recipe fits a TPU topology, and how fast it can be there.

Every phase is compiled by the very compiler that TPUs use; nothing is guessed, and nothing runs.
"""

import argparse
import contextlib
import pathlib
import tempfile
from collections.abc import Sequence

from codet5p_jax.cli import gin_config, precompile_modes
from codet5p_jax.cli.precompile_figures import Figures, compile_phases, parse_recipe, versions
from codet5p_jax.cli.precompile_page import write_page
from codet5p_jax.cli.precompile_tables import phase_table
from codet5p_jax.cli.precompile_trials import DOES_NOT_FIT
from codet5p_jax.cli.results import results_console, write_results
from codet5p_jax.training.saved_steps import compilation_cache_at
from codet5p_jax.training.slice_shapes import SLICE_SHAPES, check_sides

SPARE = 0.1  # of the memory, that a search leaves
CACHE = "compilation_cache"  # folder below that of --save


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
    precompile_modes.add_search_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compiles every phase and prints what it needs; returns 1 where one does not fit."""
    _check_modes(arguments)
    _check_slice(arguments)
    _check_outputs(arguments)
    if arguments.smallest:
        phases = precompile_modes.smallest(arguments)
    elif arguments.search:
        phases = precompile_modes.search(arguments)
    else:
        phases = _compile(arguments)
    _write(arguments, phases)
    return 0 if phases and all(phase["fits"] for phase in phases) else DOES_NOT_FIT


def _check_modes(arguments: argparse.Namespace) -> None:
    """Raises ValueError for flags that do not go together."""
    if bool(arguments.topology) == bool(arguments.smallest):
        raise ValueError(
            "Give the slice, --topology=v5e:4x4, or --smallest=v5e to find one of a generation; "
            "one of the two."
        )
    if arguments.search and arguments.smallest:
        raise ValueError("Give --search or --smallest: first a slice, then what to do with it.")
    if arguments.spare is None:
        arguments.spare = SPARE
    elif not (arguments.search or arguments.smallest):
        raise ValueError("--spare says what --search or --smallest shall leave; give one of them.")
    if not 0 <= arguments.spare < 1:
        raise ValueError(f"--spare is {arguments.spare}; give a share of the memory, such as 0.1.")
    if arguments.save and (arguments.search or arguments.smallest):
        raise ValueError(
            "--save keeps the steps of one configuration: run precompile again with the bindings "
            "that were found, without --search and --smallest."
        )
    needless = [flag for flag in precompile_modes.SEARCHES if getattr(arguments, flag) is not None]
    if needless and not arguments.search:
        raise ValueError(f"--{needless[0]} says what --search shall try; give --search too.")


def _check_slice(arguments: argparse.Namespace) -> None:
    """Raises ValueError for slices that there are not, before a recipe is read."""
    if arguments.num_slices < 1:
        raise ValueError(f"--num_slices is {arguments.num_slices}; give 1 or more.")
    if arguments.topology:
        check_sides(arguments.topology)


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Raises ValueError for what could not be written once all is compiled."""
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


def _compile(arguments: argparse.Namespace) -> Sequence[Figures]:
    program = parse_recipe(
        arguments.gin_file,
        arguments.gin_bindings,
        topology=arguments.topology,
        num_slices=arguments.num_slices,
    )
    save = pathlib.Path(arguments.save) if arguments.save else None
    console, phases = results_console(100), []
    cache = compilation_cache_at(save / CACHE) if save else contextlib.nullcontext()
    with cache, console.status("") as status:
        for figures in compile_phases(
            program,
            topology=arguments.topology,
            only=arguments.phase,
            save=save,
            before=lambda phase: status.update(
                f"Compiling phase {phase.name} for {arguments.topology}"
            ),
        ):
            phases.append(figures)
            console.print(phase_table(figures))
    if save:
        console.print(
            f"A run with JAX_COMPILATION_CACHE_DIR={save / CACHE} starts without compiling, if its "
            "jaxlib, libtpu, flags and gin files are these.",
            soft_wrap=True,
        )
    return phases


def _write(arguments: argparse.Namespace, phases: Sequence[Figures]) -> None:
    recipe = " ".join([*arguments.gin_file, *arguments.gin_bindings])
    if arguments.json:
        write_results(
            pathlib.Path(arguments.json),
            {"recipe": recipe, "versions": versions(), "phases": list(phases)},
        )
    if arguments.html:
        write_page(pathlib.Path(arguments.html), phases, recipe=recipe, versions=versions())
