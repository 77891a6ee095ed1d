"""Every pod recipe compiled for its slice, and the table of docs/pods.md made of the figures.

``python -m benchmarks.precompile_all`` compiles all of gin/pods, each recipe in a process of its
own that frees its memory; with names, those alone; with --table it only writes the table anew.
Figures lie in benchmarks/results/precompile, a file for each recipe; the table shows those of the
recipes that there are.
"""

import argparse
import difflib
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from codet5p_jax.cli.precompile_figures import Figures, fits, versions
from codet5p_jax.cli.precompile_tables import mesh_text, needed_text
from codet5p_jax.cli.precompile_trials import Outcome, compile_in_child
from codet5p_jax.cli.quantities import counted_text
from codet5p_jax.cli.quiet import silenced_stderr
from codet5p_jax.cli.results import now, write_results
from codet5p_jax.training.ahead_of_time import topology_devices
from codet5p_jax.training.chips import GIB

ROOT = pathlib.Path(__file__).parent.parent
PODS = ROOT / "gin" / "pods"
RESULTS = ROOT / "benchmarks" / "results" / "precompile"
PAGE = ROOT / "docs" / "pods.md"
BEGIN = "<!-- made by `make precompile-all`: begin -->"
END = "<!-- made by `make precompile-all`: end -->"
SPARE = 0.1  # of the memory, that a pod recipe must leave
HEADER = (
    "recipe, phase",
    "slice",
    "batch, rows",
    "`MICROBATCHES`",
    "mesh",
    "remat",
    "HBM, GiB",
    "spare",
    "FLOPs, T (the model's)",
    "HBM traffic, GB",
    "all-reduce, GB",
    "other messages, GB",
    "step at least, ms",
    "limited by",
    "MFU at most",
    "compiled in, s",
)


def main(words: Sequence[str] | None = None) -> int:
    """Compiles and writes; returns 1 where a recipe fails, or leaves too little memory.

    Args:
        words: Of the command line; None: those of this process.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of gin/pods; none: all")
    parser.add_argument("--table", action="store_true", help="compile nothing")
    arguments = parser.parse_args(words)
    try:
        names = chosen(arguments.names)
        if not arguments.table:
            with silenced_stderr():
                topology_devices("v5e:2x2")  # says at once where there is no compiler
    except (ValueError, ImportError) as error:
        print(f"precompile_all: {error}", file=sys.stderr)
        return 2
    failed = [] if arguments.table else [name for name in names if not refresh(name)]
    recipes = pod_recipes()
    figures = figures_of(RESULTS, recipes)
    write_table(PAGE, figures)
    if missing := [name for name in recipes if name not in figures]:
        print(f"precompile_all: no figures yet of {', '.join(missing)}", file=sys.stderr)
    return 1 if failed else 0


def pod_recipes() -> Sequence[str]:
    """Returns the names of gin/pods."""
    return sorted(path.stem for path in PODS.glob("*.gin"))


def chosen(names: Sequence[str]) -> Sequence[str]:
    """Returns these recipes, or all for none.

    Raises:
        ValueError: There is no such recipe.
    """
    known = pod_recipes()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2) or known
            raise ValueError(f"gin/pods has no {name!r}. Did you mean {' or '.join(near)}?")
    return names or known


def topology_of(name: str) -> str:
    """Returns the slice that a recipe's name ends with, such as "v5e:4x4".

    Args:
        name: Such as "stage1_220m_v5e_4x4".
    """
    generation, shape = name.rsplit("_", 2)[-2:]
    return f"{generation}:{shape}"


def refresh(
    name: str,
    *,
    results: pathlib.Path = RESULTS,
    compile_words: Callable[[Sequence[str]], Outcome] = compile_in_child,
) -> bool:
    """Compiles a recipe and keeps its figures; returns whether it leaves memory enough.

    Args:
        name: Of gin/pods.
        results: Folder to write to.
        compile_words: Runs precompile with these words.
    """
    topology = topology_of(name)
    words = [f"--gin_file=pods/{name}.gin", f"--topology={topology}"]
    outcome = compile_words(words)
    print(f"{name}: {outcome}", flush=True)
    if outcome.failure:
        return False
    phases = [{k: v for k, v in phase.items() if k != "heaviest"} for phase in outcome.phases]
    write_results(
        results / f"{name}.json",
        {"recipe": name, "time": now(), "versions": versions(), "phases": phases},
    )
    return all(fits(phase, spare=SPARE) for phase in phases)


def figures_of(results: pathlib.Path, recipes: Sequence[str]) -> Mapping[str, Sequence[Figures]]:
    """Returns recipe -> figures of its phases, of those recipes that have some.

    Args:
        results: Folder of the files; one of a recipe that is no more is left aside.
        recipes: Names.
    """
    paths = {name: results / f"{name}.json" for name in recipes}
    return {
        name: json.loads(path.read_text(encoding="utf-8"))["phases"]
        for name, path in paths.items()
        if path.exists()
    }


def write_table(page: pathlib.Path, figures: Mapping[str, Sequence[Figures]]) -> None:
    """Writes the table between its marks in a page.

    Args:
        page: A file that holds both marks.
        figures: Recipe -> figures of its phases.

    Raises:
        ValueError: The page has not both marks.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has not the marks {BEGIN!r} and {END!r}; put them back.")
    table = "\n".join(table_lines(figures))
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def table_lines(figures: Mapping[str, Sequence[Figures]]) -> Iterator[str]:
    """Yields the lines of the table in Markdown, a row for each phase.

    Args:
        figures: Recipe -> figures of its phases.
    """
    yield _line(HEADER)
    yield _line(["---"] * len(HEADER))
    for recipe, phases in figures.items():
        for phase in phases:
            yield _line(_row(recipe, phase))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(recipe: str, phase: Figures) -> Sequence[str]:
    name = recipe.removesuffix(f"_{phase['topology'].replace(':', '_')}")
    about = [
        f"{name}, {phase['phase']}",
        phase["topology"],
        " + ".join(f"{rows:,}" for rows in phase["batches"].values()),
        str(phase["microbatches"]),
        mesh_text(phase["mesh"]) + (", FSDP" if phase["fsdp"] else ""),
        (phase["remat_policy"] or "none").rpartition(".")[2],
    ]
    if not phase["fits"]:
        needed = needed_text(phase).removesuffix(" GiB")
        return [*about, needed, "does not fit", *[""] * (len(HEADER) - len(about) - 2)]
    return [
        *about,
        f"{phase['hbm_bytes'] / GIB:.2f} of {phase['usable_hbm_bytes'] / GIB:.2f}",
        f"{phase['spare']:.0%}",
        f"{phase['flops'] / 1e12:.1f} ({counted_text(phase['model_flops'], _tera)})",
        f"{phase['hbm_traffic_bytes'] / 1e9:,.0f}",
        *_messages(phase["collectives"]),
        f"{phase['step_seconds'] * 1e3:,.0f}",
        phase["limit"],
        counted_text(phase["mfu_bound"], "{:.0%}".format),
        f"{phase['compile_seconds']:.0f}",
    ]


def _messages(collectives: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """Returns what all-reduces and what the other collectives are given, in GB."""
    reduced = sum(e["operand_bytes"] for e in collectives if e["kind"] == "all-reduce")
    others = sum(e["operand_bytes"] for e in collectives if e["kind"] != "all-reduce")
    return f"{reduced / 1e9:.2f}", f"{others / 1e9:.2f}"


def _tera(flops: float) -> str:
    return f"{flops / 1e12:.1f}"


if __name__ == "__main__":
    sys.exit(main())
