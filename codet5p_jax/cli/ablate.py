"""`codet5p ablate`: a recipe beside variants of it, on one corpus, with the same seeds."""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codet5p_jax.cli import ablation_plan
from codet5p_jax.cli.ablation_plan import BASE, STAGES, Ablation, Overlay
from codet5p_jax.cli.eval import positive
from codet5p_jax.cli.pretrain import RECIPES, find_recipe
from codet5p_jax.cli.results import now, results_console, write_results
from codet5p_jax.cli.stations import (
    STOPPED,
    Station,
    command_line,
    is_done,
    read_done,
    run_station,
)

RESULT = "ablation.json"
LOG_WIDTH = 140


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the base, its variants, the seeds and the folders."""
    add = parser.add_argument
    add("--base", default="quickstart", help=f"recipe to vary: {', '.join(RECIPES)}")
    add(
        "--set",
        action="append",
        default=[],
        metavar="GIN_FILE",
        help="overlay, such as ablations/stage2/without_matching.gin; its folder says which stage "
        "it changes; repeatable, each is a variant",
    )
    add("--seeds", type=positive, default=3, help="runs of each variant (%(default)s)")
    add("--out", required=True, metavar="DIR", help="folder for everything that is made")
    add("--corpus", metavar="DIR", help="corpus (default: the base's, built in --out)")
    add("--tokenizer", metavar="DIR", help="tokenizer (default: the base's, trained in --out)")
    add(
        "--through_stage2",
        action="store_true",
        help="judge variants of stage 1 after stage 2 too",
    )
    add("--dry_run", action="store_true", help="print the commands, and run none of them")


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raises for a base that there is not, and for folders that are none, or do not go together."""
    find_recipe(arguments.base)
    if bool(arguments.corpus) != bool(arguments.tokenizer):
        given, missing = ("corpus", "tokenizer") if arguments.corpus else ("tokenizer", "corpus")
        raise ValueError(
            f"--{given} is given without --{missing}, and a tokenizer belongs to its corpus; give "
            "both, or neither to build them."
        )
    for name in ("corpus", "tokenizer"):
        folder = getattr(arguments, name)
        if folder and not pathlib.Path(folder).is_dir():
            raise FileNotFoundError(
                f"--{name} is {folder!r}, which is no folder; give one that is, or neither "
                "--corpus nor --tokenizer to build them."
            )


def run(arguments: argparse.Namespace) -> int:
    """Runs what is not done yet, prints the table; returns 0, or 1 when a run failed."""
    out = pathlib.Path(arguments.out)
    ablation = _ablation(arguments, out)
    stations = ablation_plan.stations(ablation)
    changes = {each.name: _changes(each, ablation) for each in ablation.overlays}
    if arguments.dry_run:
        print("\n".join(command_line(station.words) for station in stations))
        return 0
    for station in stations:
        ablation_plan.check_kept_run(station, stations)
    failed, code = _run_stations(stations, out)
    _write_and_print(ablation, changes, failed, out)
    return code or (1 if failed else 0)


def _ablation(arguments: argparse.Namespace, out: pathlib.Path) -> Ablation:
    return Ablation(
        recipe=find_recipe(arguments.base),
        base=arguments.base,
        overlays=[Overlay.from_file(path) for path in arguments.set],
        seeds=range(arguments.seeds),
        out=out,
        corpus=pathlib.Path(arguments.corpus or out / "corpus"),
        tokenizer=pathlib.Path(arguments.tokenizer or out / "tokenizer"),
        builds_corpus=not arguments.corpus,
        through_stage2=arguments.through_stage2,
    )


def _changes(overlay: Overlay, ablation: Ablation) -> list[dict[str, str]]:
    """Returns what the overlay changes in the configuration of its stage.

    Raises:
        ValueError: Nothing: it would be compared with itself.
    """
    recipe = getattr(ablation.recipe, overlay.stage)
    base = ablation_plan.resolved([recipe])
    varied = ablation_plan.resolved([recipe, overlay.gin_file])
    changed = ablation_plan.differences(base, varied)
    if not changed:
        raise ValueError(
            f"{overlay.gin_file} changes nothing in {recipe}: it sets what the base has already, "
            "or macros that nothing there reads. Leave it out, or take another base."
        )
    return [
        {"name": ablation_plan.short(name), "base": base.get(name, "not set"), "variant": value}
        for name, value in ((name, varied.get(name, "not set")) for name in changed)
    ]


def _run_stations(stations: Sequence[Station], out: pathlib.Path) -> tuple[list[str], int]:
    """Runs all stations but those that need a failed one; returns the failed, and a stop's code."""
    failed: list[str] = []
    broken: set[str] = set()
    for number, station in enumerate(stations, start=1):
        left = ablation_plan.time_left(stations[number - 1 :], read_done(out))
        print(f"[{number}/{len(stations)}] {station.name}{left}", flush=True)
        if broken.intersection(station.needs):
            broken.add(station.name)
            print("    left out: what it needs failed", flush=True)
            continue
        code = run_station(station, out, stale=ablation_plan.dependents(station.name, stations))
        if code in STOPPED:
            print("Stopped; run the same command again to go on.", file=sys.stderr)
            return failed, code
        if code:
            print(f"    failed with exit code {code}", file=sys.stderr)
            failed.append(station.name)
            broken.add(station.name)
    return failed, 0


def _write_and_print(
    ablation: Ablation,
    changes: Mapping[str, Sequence[Mapping[str, str]]],
    failed: Sequence[str],
    out: pathlib.Path,
) -> None:
    from codet5p_jax.evaluation.ablation_table import ablation_tables, markdown

    result = {
        "created": now(),
        "base": ablation.base,
        "seeds": list(ablation.seeds),
        "stages": dict(_stages(ablation)),
        "changes": changes,
        "failed": list(failed),
    }
    write_results(out / RESULT, result)
    (out / "ablation.md").write_text(markdown(result), encoding="utf-8")
    console = results_console(LOG_WIDTH)
    for table in ablation_tables(result):
        console.print(table)
    for name in failed:
        print(f"Failed: {name}. Its results are not in the table.", file=sys.stderr)
    if failed:
        print("Mend the cause and run the same command again.", file=sys.stderr)
    print(f"Results: {out / RESULT}, {out / 'ablation.md'}")


def _stages(ablation: Ablation) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yields (stage, rows) of each stage of which something was measured."""
    from codet5p_jax.evaluation.ablation import METRICS, compared

    for stage in STAGES:
        runs = {variant: _runs(ablation, stage, variant) for variant in ablation.judged(stage)}
        if any(runs.values()):
            yield stage, compared(runs, base=BASE, metrics=METRICS[stage])


def _runs(ablation: Ablation, stage: str, variant: str) -> dict[int, dict[str, float]]:
    """Returns seed -> metrics of a variant, of the runs that are done."""
    from codet5p_jax.evaluation.ablation import VALUES

    done = read_done(ablation.out)
    stations = {station.name: station for station in ablation_plan.stations(ablation)}
    judging = {
        seed: stations[ablation_plan.judging(stage, variant, seed)] for seed in ablation.seeds
    }
    return {
        seed: VALUES[stage](json.loads(station.result.read_text(encoding="utf-8")))
        for seed, station in judging.items()
        if is_done(station, done)
    }
