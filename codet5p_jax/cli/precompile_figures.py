"""What compiling the phases of a recipe tells, as JSON values."""

import contextlib
import dataclasses
import inspect
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
from jax.sharding import PartitionSpec

from codet5p_jax.cli import gin_config
from codet5p_jax.cli.quiet import silenced_stderr
from codet5p_jax.cli.train import train
from codet5p_jax.models.function_names import function_name
from codet5p_jax.training.ahead_of_time import (
    CompiledStep,
    DoesNotFitError,
    chip_of_topology,
    compile_step,
)
from codet5p_jax.training.curriculum import Phase
from codet5p_jax.training.hlo.breakdown import heaviest_instructions
from codet5p_jax.training.program import AbstractBatch, Program
from codet5p_jax.training.saved_steps import save_step
from codet5p_jax.training.stream_checks import check_streams

OVERLAY = "runs/precompile.gin"
HEAVIEST = 15  # instructions

Figures = Mapping[str, Any]  # of one phase, per chip and step
Batches = Mapping[str, AbstractBatch]  # stream -> feature -> shape of its global batch


def parse_recipe(
    gin_files: Sequence[str], bindings: Sequence[str], *, topology: str, num_slices: int
) -> Program:
    """Returns the program of a recipe on the devices of a topology; no data are read.

    Args:
        gin_files: The recipe, and what shall stand behind it.
        bindings: NAME=VALUE.
        topology: Such as "v5e:4x4".
        num_slices: Slices of that shape.

    Raises:
        GinConfigError: The recipe cannot be parsed.
        ImportError: libtpu is not installed.
        ValueError: The compiler refuses the topology, or the mesh does not fit it.
    """
    where = [f"TOPOLOGY={topology}", f"TOPOLOGY_SLICES={num_slices}"]
    gin_config.parse(gin_files=[*gin_files, OVERLAY], bindings=[*where, *bindings])
    # The compiler misses the machine that it compiles for, and says so.
    with silenced_stderr(told_by=(ValueError,)):
        bound = gin_config.arguments(train)
    names = {field.name for field in dataclasses.fields(Program)}
    return Program(**{name: value for name, value in bound.items() if name in names})


def abstract_batches(program: Program) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """Returns stream -> feature -> shape of its global batches; no data are read.

    Raises:
        ValueError: Batches of a stream, held-out ones too, do not fit its objective, or the mesh.
    """
    check_streams(
        program.curriculum,
        batch_shapes=lambda dataset: {n: rows.shape for n, rows in _abstract(dataset).items()},
        partitioner=program.partitioner,
    )
    return {name: _abstract(each.dataset) for name, each in program.curriculum.streams.items()}


def _abstract(dataset: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shape and dtype of each feature of a dataset's global batches."""
    from codet5p_jax.data.batches import empty_features

    return {
        feature: jax.ShapeDtypeStruct((dataset.batch_size, *row.shape[1:]), row.dtype)
        for feature, row in empty_features(dataset).items()
    }


def phases_of(program: Program, *, only: str | None = None) -> list[tuple[int, Phase]]:
    """Returns (first step, phase) of every phase, or of one.

    Args:
        program: Of a recipe.
        only: Name of a phase.

    Raises:
        ValueError: There is no phase of that name.
    """
    phases = [(start, program.curriculum.phase_at(start)[0]) for start in program.train_steps]
    chosen = [(start, phase) for start, phase in phases if only in (None, phase.name)]
    if not chosen:
        known = ", ".join(phase.name for _, phase in phases)
        raise ValueError(f"--phase is {only!r}; the recipe has the phases {known}.")
    return chosen


def phase_figures(
    program: Program,
    first_step: int,
    shapes: Batches,
    *,
    topology: str,
    save: pathlib.Path | None = None,
) -> Figures:
    """Compiles one phase and returns what that tells, all of it per chip and step.

    Args:
        program: On the devices of the topology.
        first_step: Of the phase.
        shapes: Of the batches of every stream of the program.
        topology: Such as "v5e:4x4".
        save: Folder to write the executable to; None writes nothing.
    """
    phase, _ = program.curriculum.phase_at(first_step)
    batches = {stream.name: shapes[stream.name] for stream in phase.streams}
    chip = chip_of_topology(topology)
    about = {
        "phase": phase.name,
        "steps": phase.steps,
        "topology": topology,
        "chips": program.partitioner.mesh.size,
        "mesh": dict(program.partitioner.mesh.shape),
        "fsdp": _shards_parameters(program),
        **_how_it_is_computed(program, phase, batches),
        "usable_hbm_bytes": chip.usable_hbm_bytes,
    }
    try:
        compiled = compile_step(program, first_step, batches, chip=chip)
    except DoesNotFitError as error:
        return {**about, "fits": False, "hbm_bytes": error.needed_bytes, "said": error.message}
    saved = {} if save is None else _saved(compiled, save / f"{phase.name}.executable")
    return {**about, "fits": True, **_costs(compiled), **saved}


def fits(figures: Figures, *, spare: float = 0.0) -> bool:
    """Returns whether a phase fits with so much of the memory left.

    Args:
        figures: Of the phase.
        spare: Share of the usable memory, 0 to 1.
    """
    return bool(figures["fits"] and figures["spare"] >= spare)


def versions() -> dict[str, str]:
    """Returns the versions of what compiles, of what is installed of it."""
    installed = {}
    for name in ("jax", "jaxlib", "libtpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def _how_it_is_computed(program: Program, phase: Phase, batches: Batches) -> dict[str, Any]:
    config = program.model.config
    return {
        "batches": {name: _rows(batch) for name, batch in batches.items()},
        "microbatches": max(
            getattr(stream.objective, "microbatches", 1) for stream in phase.streams
        ),
        "remat_policy": config.remat_policy and function_name(inspect.unwrap(config.remat_policy)),
        "dtype": jax.numpy.dtype(config.dtype).name,
        "state_bytes": _bytes_per_device(program.abstract_state()),
    }


def _shards_parameters(program: Program) -> bool:
    """Returns whether any parameter is split along the axis that copies of the model lie along."""
    specs = jax.tree.leaves(
        program.state_axes.params, is_leaf=lambda s: isinstance(s, PartitionSpec)
    )
    return any("data" in jax.tree.leaves(tuple(spec)) for spec in specs)


def _rows(batch: AbstractBatch) -> int:
    return next(iter(batch.values())).shape[0]


def _bytes_per_device(state: Any) -> int:
    """Returns what one device holds of a state between steps, without the padding of tiles."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(state)
    )


def _saved(step: CompiledStep, path: pathlib.Path) -> dict[str, Any]:
    return {"saved": str(path), "saved_bytes": save_step(step.executable, path)}


def _costs(step: CompiledStep) -> dict[str, Any]:
    heaviest = heaviest_instructions(step.module, count=HEAVIEST)
    return {
        "hbm_bytes": step.hbm_bytes,
        "spare": step.spare,
        "compile_seconds": step.compile_seconds,
        "model_flops": step.model_flops,
        "flops": step.costs.flops,
        "hbm_traffic_bytes": step.costs.hbm_bytes,
        "collectives": [
            {**dataclasses.asdict(entry), "wire_bytes": entry.wire_bytes}
            for entry in step.costs.collectives
        ],
        "unknown": list(step.costs.unknown),
        "seconds": step.roofline.seconds,
        "limit": step.roofline.limit,
        "step_seconds": step.roofline.step_seconds,
        "mfu_bound": step.model_flops and step.roofline.mfu_bound(step.model_flops),
        "heaviest": [dataclasses.asdict(entry) for entry in heaviest],
    }


def compile_phases(
    program: Program,
    *,
    topology: str,
    only: str | None = None,
    save: pathlib.Path | None = None,
    before: Callable[[Phase], None] = lambda phase: None,
) -> Iterator[Figures]:
    """Yields the figures of each phase as it is compiled.

    Args:
        program: On the devices of the topology.
        topology: Such as "v5e:4x4".
        only: Name of the one phase to compile; None: all.
        save: Folder for the executables; None writes none.
        before: Called with each phase before it is compiled.

    Raises:
        ValueError: Batches do not fit the mesh, or there is no such phase.
    """
    shapes = abstract_batches(program)
    for first_step, phase in phases_of(program, only=only):
        before(phase)
        yield phase_figures(program, first_step, shapes, topology=topology, save=save)
