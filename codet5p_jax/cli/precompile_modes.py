"""`--search` and `--smallest` of precompile: which tries to make, and what to say of them."""

import argparse
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from codet5p_jax.cli import gin_config
from codet5p_jax.cli.precompile_figures import (
    Figures,
    abstract_batches,
    parse_recipe,
    phases_of,
)
from codet5p_jax.cli.precompile_flags import FSDP, REMAT_POLICIES, spare_of
from codet5p_jax.cli.precompile_search import (
    Candidate,
    Layout,
    default_meshes,
    default_microbatches,
    layouts,
)
from codet5p_jax.cli.precompile_search import search as search_candidates
from codet5p_jax.cli.precompile_tables import WAYS_OUT, phase_table
from codet5p_jax.cli.precompile_trials import (
    Outcome,
    compile_in_child,
    compile_until_one_does_not_fit,
    first_that_fits,
)
from codet5p_jax.cli.results import results_console
from codet5p_jax.training.program import Program
from codet5p_jax.training.slice_shapes import slice_topologies


def search(arguments: argparse.Namespace) -> Sequence[Figures]:
    """Returns the figures of the cheapest candidate that fits; none where none does.

    Raises:
        ValueError: There is nothing to try, or the recipe does not build.
    """
    console = results_console(100)
    program = _program(arguments, arguments.topology)
    candidates = _candidates(arguments, program, console)
    main, *others = _phases(program, arguments.phase)
    spare = spare_of(arguments)

    def attempt(candidate: Candidate, phases: Sequence[str] = (main,)) -> Outcome:
        words = _words(arguments, arguments.topology, candidate)
        with console.status(f"Compiling {candidate}, phase {phases[0]}"):
            outcome = _compiled(words, phases, spare=spare)
        _say(console, f"{candidate}, phase {phases[0]}: {outcome}")
        return outcome

    tried = search_candidates(candidates, attempt)
    for candidate, outcome in tried.items():
        if not outcome.fits:
            break
        rest = attempt(candidate, others) if others else Outcome(fits=True)
        if rest.fits:
            phases = [*outcome.phases, *rest.phases]
            _show(console, phases)
            _say(
                console, f"The cheapest that fits, of {len(tried)} tried. Add to the command line:"
            )
            _say(console, _pasted(candidate))
            return phases
    _say(console, f"None of {len(tried)} tried fits with {spare:.0%} spare. {WAYS_OUT}")
    return []


def smallest(arguments: argparse.Namespace) -> Sequence[Figures]:
    """Returns the figures of the smallest slice that the recipe fits; none where none does.

    Raises:
        ValueError: The generation is not known, or the recipe does not build.
    """
    console = results_console(100)
    topologies = slice_topologies(arguments.smallest)
    spare = spare_of(arguments)
    programs: dict[str, Program] = {}
    for topology in topologies:
        built = _built(arguments, topology)
        if isinstance(built, Program):
            programs[topology] = built
        else:
            _say(console, f"{topology}: skipped. {built}")
    outcomes: dict[str, Outcome] = {}

    def attempt(topology: str) -> Outcome:
        phases = _phases(programs[topology], arguments.phase)
        words = _words(arguments, topology)
        with console.status(f"Compiling for {topology}"):
            outcomes[topology] = _compiled(words, phases, spare=spare)
        _say(console, f"{topology}: {outcomes[topology]}")
        return outcomes[topology]

    found = first_that_fits(list(programs), attempt)
    if found is None:
        _say(
            console,
            f"No slice of {arguments.smallest} tried fits with {spare:.0%} spare. {WAYS_OUT}",
        )
        return []
    _show(console, outcomes[found].phases)
    _say(console, f"The smallest: --topology={found}")
    return outcomes[found].phases


def _candidates(
    arguments: argparse.Namespace, program: Program, console: Console
) -> Mapping[Layout, Sequence[int]]:
    """Returns what there is to try; says why the rest is not."""
    mesh = program.partitioner.mesh
    streams = program.curriculum.streams.values()
    meshes = arguments.search_mesh or default_meshes(mesh.size // mesh.shape["slice"])
    least = min(data for data, _ in meshes) * mesh.shape["slice"]
    numbers = arguments.search_microbatches
    numbers = numbers or default_microbatches([s.dataset.batch_size for s in streams], least)
    numbers = numbers or [1]  # which will be skipped, with the reason
    kinds = layouts(
        meshes=meshes,
        fsdp=arguments.search_fsdp or list(FSDP.values()),
        remats=arguments.search_remat or REMAT_POLICIES,
    )
    usable: dict[Layout, list[int]] = {}
    skipped: dict[str, list[Candidate]] = {}
    with console.status("Finding out which combinations can be built"):
        for kind in kinds:
            for number in sorted(numbers):
                candidate = Candidate(layout=kind, microbatches=number)
                built = _built(arguments, arguments.topology, candidate)
                if isinstance(built, Program):
                    usable.setdefault(kind, []).append(number)
                else:
                    skipped.setdefault(built, []).append(candidate)
    for line in skipped_lines(skipped):
        _say(console, line)
    if not usable:
        raise ValueError(
            "--search has nothing to try: every candidate was skipped, for the reasons above. "
            "Give others: --search_mesh, --search_fsdp, --search_remat, --search_microbatches."
        )
    return usable


def skipped_lines(skipped: Mapping[str, Sequence[Candidate]]) -> Iterator[str]:
    """Yields a line for each reason, with the first that it holds for and the number of the others.

    Args:
        skipped: Reason -> those that cannot be built for it.
    """
    for reason, candidates in skipped.items():
        more = f" and {len(candidates) - 1} more" if len(candidates) > 1 else ""
        yield f"{candidates[0]}{more}: skipped. {reason}"


def _program(
    arguments: argparse.Namespace, topology: str, candidate: Candidate | None = None
) -> Program:
    files, bindings = _configuration(arguments, candidate)
    return parse_recipe(files, bindings, topology=topology, num_slices=arguments.num_slices)


def _configuration(
    arguments: argparse.Namespace, candidate: Candidate | None
) -> tuple[Sequence[str], Sequence[str]]:
    """Returns gin files and bindings: those given, and behind them the candidate's."""
    files, bindings = arguments.gin_file, arguments.gin_bindings
    if candidate is None:
        return files, bindings
    return [*files, candidate.gin_file], [*bindings, *candidate.bindings]


def _built(
    arguments: argparse.Namespace, topology: str, candidate: Candidate | None = None
) -> Program | str:
    """Returns the program, or why its mesh, batches or state do not fit, on one line."""
    try:
        program = _program(arguments, topology, candidate)
        abstract_batches(program)
        _ = program.state_axes
    except gin_config.GinConfigError:
        raise  # what is wrong with the recipe is wrong everywhere
    except ValueError as error:
        return str(error).partition("\n")[0]
    return program


def _phases(program: Program, only: str | None) -> Sequence[str]:
    """Returns the names of the phases: that of most steps first, the others from the last on."""
    phases = [phase for _, phase in phases_of(program, only=only)][::-1]
    return [phase.name for phase in sorted(phases, key=lambda phase: -phase.steps)]


def _compiled(words: Sequence[str], phases: Sequence[str], *, spare: float) -> Outcome:
    return compile_until_one_does_not_fit(
        phases,
        compile_phase=lambda phase: compile_in_child([*words, f"--phase={phase}"]),
        spare=spare,
    )


def _words(
    arguments: argparse.Namespace, topology: str, candidate: Candidate | None = None
) -> Sequence[str]:
    """Returns the command line of precompile that compiles a candidate, or the recipe as it is."""
    files, bindings = _configuration(arguments, candidate)
    return [
        *(f"--gin_file={name}" for name in files),
        *(f"--gin_bindings={binding}" for binding in bindings),
        f"--topology={topology}",
        f"--num_slices={arguments.num_slices}",
    ]


def _pasted(candidate: Candidate) -> str:
    bindings = (binding.partition("=") for binding in candidate.bindings)
    flags = " ".join(
        f"--gin.{name}='{value}'" if " " in value else f"--gin.{name}={value}"
        for name, _, value in bindings
    )
    return f"--gin_file={candidate.gin_file} {flags}"


def _show(console: Console, phases: Sequence[Figures]) -> None:
    for figures in phases:
        console.print(phase_table(figures))


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, markup=False, highlight=False)
