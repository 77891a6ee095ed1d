"""`codet5p precompile`: whether a recipe fits a TPU topology, and how fast it can be there.

Every phase is compiled by the very compiler that TPUs use; nothing is guessed, and nothing runs.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from rich.table import Table

from codet5p_jax.cli import gin_config
from codet5p_jax.cli.results import results_console, write_results
from codet5p_jax.cli.train import train
from codet5p_jax.training.ahead_of_time import (
    CompiledStep,
    DoesNotFitError,
    chip_of_topology,
    compile_step,
)
from codet5p_jax.training.chips import GIB
from codet5p_jax.training.curriculum import Phase
from codet5p_jax.training.program import AbstractBatch, Program
from codet5p_jax.training.stream_checks import check_batches

OVERLAY = "runs/precompile.gin"
DOES_NOT_FIT = 1  # exit code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds T5X's flags, and where the steps shall run."""
    gin_config.add_arguments(parser)
    parser.add_argument(
        "--topology", required=True, help="generation and shape of a slice, such as v5e:4x4"
    )
    parser.add_argument("--num_slices", type=int, default=1, help="slices of that shape")
    parser.add_argument("--json", metavar="PATH", help="write the figures there too")


def run(arguments: argparse.Namespace) -> int:
    """Compiles every phase and prints what it needs; returns 1 where one does not fit."""
    if not arguments.gin_file:
        raise gin_config.GinConfigError(
            "Give a recipe: codet5p precompile --gin_file=recipes/stage1_220m.gin"
        )
    slices = f"TOPOLOGY_SLICES={arguments.num_slices}"
    gin_config.parse(
        gin_files=[*arguments.gin_file, OVERLAY],
        bindings=[f"TOPOLOGY={arguments.topology}", slices, *arguments.gin_bindings],
    )
    program = _program(gin_config.arguments(train))
    shapes = abstract_batches(program)
    phases, console = [], results_console(100)
    for first_step, phase in _phases(program):
        batches = {stream.name: shapes[stream.name] for stream in phase.streams}
        with console.status(f"Compiling phase {phase.name} for {arguments.topology}"):
            phases.append(_figures(program, first_step, batches, topology=arguments.topology))
        console.print(_table(phases[-1]))
    if arguments.json:
        write_results(pathlib.Path(arguments.json), {"phases": phases})
    return 0 if all(phase["fits"] for phase in phases) else DOES_NOT_FIT


def abstract_batches(program: Program) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """Returns stream -> feature -> shape of its global batches; no data are read.

    Raises:
        ValueError: Batches of a stream do not fit its objective, or the mesh.
    """
    from codet5p_jax.data.batches import empty_features

    shapes = {}
    for name, stream in program.curriculum.streams.items():
        rows = stream.dataset.batch_size
        shapes[name] = {
            feature: jax.ShapeDtypeStruct((rows, *row.shape[1:]), row.dtype)
            for feature, row in empty_features(stream.dataset).items()
        }
        try:
            sizes = {feature: abstract.shape for feature, abstract in shapes[name].items()}
            check_batches(stream.objective, sizes, partitioner=program.partitioner)
        except ValueError as error:
            raise ValueError(f"Stream {name!r}: {error}") from error
    return shapes


def _program(bound: Mapping[str, Any]) -> Program:
    names = {field.name for field in dataclasses.fields(Program)}
    return Program(**{name: value for name, value in bound.items() if name in names})


def _phases(program: Program) -> list[tuple[int, Phase]]:
    return [(start, program.curriculum.phase_at(start)[0]) for start in program.train_steps]


def _figures(
    program: Program,
    first_step: int,
    batches: Mapping[str, AbstractBatch],
    *,
    topology: str,
) -> dict[str, Any]:
    """Returns what compiling a phase tells, as JSON values; all of them per chip and step."""
    phase, _ = program.curriculum.phase_at(first_step)
    chip = chip_of_topology(topology)
    about = {
        "phase": phase.name,
        "topology": topology,
        "mesh": dict(program.partitioner.mesh.shape),
        "usable_hbm_bytes": chip.usable_hbm_bytes,
    }
    try:
        compiled = compile_step(program, first_step, batches, chip=chip)
    except DoesNotFitError as error:
        return {**about, "fits": False, "hbm_bytes": error.needed_bytes, "said": error.message}
    return {**about, "fits": True, **_costs(compiled)}


def _costs(step: CompiledStep) -> dict[str, Any]:
    return {
        "hbm_bytes": step.hbm_bytes,
        "spare": step.spare,
        "compile_seconds": step.compile_seconds,
        "model_flops": step.model_flops,
        "flops": step.costs.flops,
        "hbm_traffic_bytes": step.costs.hbm_bytes,
        "collectives": [dataclasses.asdict(entry) for entry in step.costs.collectives],
        "unknown": list(step.costs.unknown),
        "seconds": step.roofline.seconds,
        "limit": step.roofline.limit,
        "step_seconds": step.roofline.step_seconds,
        "mfu_bound": step.roofline.mfu_bound(step.model_flops),
    }


def _table(figures: Mapping[str, Any]) -> Table:
    """Returns the figures of one phase for a person."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in figures["mesh"].items() if size > 1)
    table = Table(
        title=f"phase {figures['phase']} on {figures['topology']} ({mesh or 'one chip'})",
        title_justify="left",
    )
    table.add_column("per chip and step")
    table.add_column("", justify="right")
    there = f"{figures['usable_hbm_bytes'] / GIB:.2f} GiB"
    if not figures["fits"]:
        needed = figures["hbm_bytes"]
        table.add_row("HBM", f"{needed / GIB:.2f} GiB" if needed else "more than there is")
        table.add_row("HBM there", there)
        table.add_row("fits", "[bold red]no")
        table.caption = (
            "Try more MICROBATCHES, a CHUNK_LENGTH, T5Config.remat_policy, "
            "PARAMETER_PARTITIONING_DIMS=2, or more chips."
        )
        return table
    table.add_row("HBM", f"{figures['hbm_bytes'] / GIB:.2f} GiB")
    table.add_row("HBM there", f"{there}, {figures['spare']:.0%} spare")
    table.add_row("FLOPs", f"{figures['flops'] / 1e12:.2f} T")
    table.add_row("of which the model's", f"{figures['model_flops'] / 1e12:.2f} T")
    table.add_row("read and written in HBM", f"{figures['hbm_traffic_bytes'] / 1e9:.1f} GB")
    for entry in figures["collectives"]:
        reach = "across slices" if entry["across_slices"] else f"of {entry['group_size']}"
        size = f"{entry['operand_bytes'] / 1e6:,.0f} MB in {entry['count']:,}"
        table.add_row(f"{entry['kind']} {reach}", size)
    for resource, seconds in figures["seconds"].items():
        if seconds:
            table.add_row(f"{resource} time, at least", f"{seconds * 1e3:,.1f} ms")
    table.add_row("limited by", figures["limit"])
    table.add_row("MFU, at most", f"{figures['mfu_bound']:.1%}")
    table.add_row("compiled in", f"{figures['compile_seconds']:.0f} s")
    for sentence in figures["unknown"]:
        table.add_row("not counted", sentence)
    return table
