"""`codet5p precompile`: whether a recipe fits a TPU topology, and how fast it can be there.

Every phase is compiled by the very compiler that TPUs use; nothing is guessed, and nothing runs.
"""

import argparse
import contextlib
import pathlib
from collections.abc import Sequence

from codet5p_jax.cli import precompile_modes
from codet5p_jax.cli.precompile_figures import Figures, compile_phases, parse_recipe, versions
from codet5p_jax.cli.precompile_page import write_page
from codet5p_jax.cli.precompile_tables import phase_table
from codet5p_jax.cli.precompile_trials import DOES_NOT_FIT
from codet5p_jax.cli.results import results_console, write_results
from codet5p_jax.training.saved_steps import compilation_cache_at

CACHE = "compilation_cache"  # folder below that of --save


def run(arguments: argparse.Namespace) -> int:
    """Compiles every phase and prints what it needs; returns 1 where one does not fit."""
    if arguments.smallest:
        phases = precompile_modes.smallest(arguments)
    elif arguments.search:
        phases = precompile_modes.search(arguments)
    else:
        phases = _compile(arguments)
    _write(arguments, phases)
    return 0 if phases and all(phase["fits"] for phase in phases) else DOES_NOT_FIT


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
