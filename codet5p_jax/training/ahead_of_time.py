"""The steps of a program compiled for TPUs that are not there, and what they will cost there."""

import dataclasses
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.experimental import topologies

from codet5p_jax.training.chips import Chip, chip_of_generation
from codet5p_jax.training.curriculum import Phase
from codet5p_jax.training.hlo.parser import Module, parse
from codet5p_jax.training.program import AbstractBatch, Program
from codet5p_jax.training.program_costs import ProgramCosts, program_costs
from codet5p_jax.training.roofline import Roofline, roofline
from codet5p_jax.training.slice_shapes import check_compiler, check_sides, chips_of

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_OUT_OF_MEMORY = re.compile(r"(?:Used |temporaries \()([\d.]+)([KMGT])")


class DoesNotFitError(Exception):
    """The compiler found no way to run a step in the memory of a chip.

    Attributes:
        needed_bytes: HBM per chip that its best attempt needs; None when it did not say.
        message: What the compiler says.
    """

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message
        used = _OUT_OF_MEMORY.search(message)
        self.needed_bytes = int(float(used[1]) * _UNITS[used[2]]) if used else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompiledStep:
    """A training step of one phase, compiled for every device of a mesh.

    Attributes:
        phase: What it trains.
        executable: To save.
        module: Its instructions, to look into; the text of a large step takes seconds to read.
        compile_seconds: Lowering and compiling together.
        hbm_bytes: Memory that it needs at its peak, per chip.
        usable_hbm_bytes: Memory that there is, per chip.
        model_flops: What the model needs in a step, per chip; None where that is not counted.
        costs: What the compiled program does in a step, per chip.
        roofline: The least time of each resource.
    """

    phase: Phase
    executable: jax.stages.Compiled
    module: Module
    compile_seconds: float
    hbm_bytes: int
    usable_hbm_bytes: int
    model_flops: float | None
    costs: ProgramCosts
    roofline: Roofline

    @property
    def spare(self) -> float:
        """Share of the usable memory that is left, 0 to 1."""
        return 1 - self.hbm_bytes / self.usable_hbm_bytes


def topology_devices(topology: str, *, num_slices: int = 1) -> Sequence[jax.Device]:
    """Returns the devices of a TPU topology, which need not exist: compile for them, no more.

    Args:
        topology: Generation and shape of one slice, such as "v5e:4x4" or "v5p:2x2x4".
        num_slices: Slices of that shape.

    Raises:
        ImportError: libtpu, the compiler, is not installed.
        ValueError: The compiler knows no such topology.
    """
    generation = topology.partition(":")[0]
    check_sides(topology)
    chip_of_generation(generation)  # says which are known, in place of the compiler
    if num_slices < 1:
        raise ValueError(f"TOPOLOGY_SLICES is {num_slices}; give 1 or more.")
    # The compiler takes a lock as if it held a chip; v4's two cores are one device, as on a pod.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    more: dict[str, Any] = {"num_slices": num_slices} if num_slices > 1 else {}
    if generation == "v4":
        more["chip_config_name"] = "megacore"
    if chips_of(topology) == 1:  # a host of one chip; the compiler takes four for granted
        more["chips_per_host_bounds"] = (1, 1, 1)
    check_compiler()
    try:
        description = topologies.get_topology_desc(topology, platform="tpu", **more)
    except Exception as error:  # libtpu has no type of its own for what it refuses
        raise ValueError(
            f"The compiler refuses the topology {topology!r} ({_first_line(error)}). Give the "
            "shape of a slice that can be rented, such as v5e:4x4, v4:2x2x2 or v5p:2x2x4."
        ) from error
    return description.devices


def chip_of_topology(topology: str) -> Chip:
    """Returns the chip that a topology such as "v5e:4x4" is made of.

    Raises:
        ValueError: Its generation is not known.
    """
    return chip_of_generation(topology.partition(":")[0])


def compile_step(
    program: Program, first_step: int, batches: Mapping[str, AbstractBatch], *, chip: Chip
) -> CompiledStep:
    """Returns the step of a phase compiled for the program's mesh.

    Args:
        program: On a mesh of `topology_devices`.
        first_step: First step of the phase.
        batches: Stream name -> shapes of its global batch, for the streams of the phase.
        chip: What the mesh is made of.

    Raises:
        DoesNotFitError: A chip has not the memory.
        ValueError: State or batches do not fit the mesh.
    """
    phase, _ = program.curriculum.phase_at(first_step)
    start = time.perf_counter()
    lowered = program.lower_train_step(first_step, batches)
    try:
        executable = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise DoesNotFitError(str(error)) from error
        raise
    seconds = time.perf_counter() - start
    mesh = program.partitioner.mesh
    slices = [getattr(device, "slice_index", 0) for device in mesh.devices.flat]
    text = executable.as_text()
    assert text is not None  # TPU's compiler always tells
    module = parse(text)
    costs = program_costs(module, slices=slices)
    flops = program.model_flops(phase, batches)
    assert chip.usable_hbm_bytes is not None  # chip_of_generation gives none without
    return CompiledStep(
        phase=phase,
        executable=executable,
        module=module,
        compile_seconds=seconds,
        hbm_bytes=_peak_bytes(executable),
        usable_hbm_bytes=chip.usable_hbm_bytes,
        model_flops=None if flops is None else flops / mesh.size,
        costs=costs,
        roofline=roofline(costs, chip),
    )


def _peak_bytes(executable: jax.stages.Compiled) -> int:
    """Returns arguments, results and temporaries; what is donated counts once."""
    memory = executable.memory_analysis()
    assert memory is not None  # as above
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
