"""Which instructions move most bytes in HBM: where to look when the memory limits a program."""

import dataclasses
import re
from collections.abc import Iterator, Sequence

from codet5p_jax.training.hlo.loops import trip_count
from codet5p_jax.training.hlo.parser import Computation, Module
from codet5p_jax.training.hlo.traffic import hbm_bytes

_CALLED = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstructionTraffic:
    """What one instruction moves in a run of the program.

    Attributes:
        name: Of the instruction.
        opcode: Such as "fusion".
        origin: Where in the traced function it comes from, such as
            "jit(train_step)/transpose/dot_general"; empty where the compiler made it.
        type_text: Of its result.
        runs: How often it is executed.
        hbm_bytes: Of all runs together.
    """

    name: str
    opcode: str
    origin: str
    type_text: str
    runs: int
    hbm_bytes: int


def heaviest_instructions(module: Module, *, count: int = 20) -> Sequence[InstructionTraffic]:
    """Returns the instructions that move most bytes in HBM, the heaviest first.

    Loops of unknown trips count once, and every branch of a conditional as if it were taken: for
    totals see program_costs.

    Args:
        module: What `parser.parse` made of a program.
        count: How many instructions.
    """
    found = [
        InstructionTraffic(
            name=instruction.name,
            opcode=instruction.opcode,
            origin=instruction.origin,
            type_text=instruction.type_text,
            runs=runs,
            hbm_bytes=runs * moved,
        )
        for computation, runs in executions(module, module.computations[module.entry])
        for instruction in computation.instructions.values()
        if (moved := hbm_bytes(module, computation, instruction))
    ]
    return sorted(found, key=lambda entry: -entry.hbm_bytes)[:count]


def executions(
    module: Module, computation: Computation, *, runs: int = 1
) -> Iterator[tuple[Computation, int]]:
    """Yields each computation that runs, and how often; bodies of loops of unknown trips once.

    Args:
        module: Of the computation.
        computation: What runs.
        runs: How often.
    """
    yield computation, runs
    for instruction in computation.instructions.values():
        opcode = instruction.opcode.removesuffix("-start")
        if opcode == "while":
            trips = trip_count(module, computation, instruction) or 1
            yield from executions(module, module.called(instruction, "body"), runs=runs * trips)
            condition = module.called(instruction, "condition")
            yield from executions(module, condition, runs=runs * (trips + 1))
        elif opcode in ("call", "async", "conditional"):
            listed = instruction.attributes_text.partition(", metadata=")[0]
            for name in _CALLED.findall(listed):
                yield from executions(module, module.computations[name], runs=runs)
