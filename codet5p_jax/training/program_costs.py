"""Compiled program -> what one device computes, moves and sends in one run of it."""

import collections
import dataclasses
import re
from collections.abc import Sequence

from codet5p_jax.training.hlo.arithmetic import elementwise_flops, matmul_flops, transcendentals
from codet5p_jax.training.hlo.collectives import (
    Collective,
    collective,
    collective_kind,
    fused_collectives,
    slice_transfer,
)
from codet5p_jax.training.hlo.custom_calls import computes_nothing, cost_estimate, target
from codet5p_jax.training.hlo.loops import trip_count
from codet5p_jax.training.hlo.parser import Computation, Instruction, Module, parse
from codet5p_jax.training.hlo.traffic import hbm_bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramCosts:
    """What one device does in one run of a program; bodies of loops count times their trips.

    Attributes:
        flops: Of dots and convolutions, which run on the matrix units; multiply and add are two.
        elementwise_flops: Elements that other arithmetic computes, counted as XLA's analysis does
            (conversions and selections among them). No part of `flops`.
        transcendentals: Elements of exponentials, roots and the like.
        hbm_bytes: Read and written in HBM by executed instructions; see hlo.traffic.
        collectives: One entry per kind, size of group, and reach.
        unknown: Sentences that say what could not be counted, and what stands for it. Empty when
            all else is complete.
    """

    flops: int
    elementwise_flops: int
    transcendentals: int
    hbm_bytes: int
    collectives: tuple[Collective, ...]
    unknown: tuple[str, ...]

    def operand_bytes(self, kind: str) -> int:
        """Returns what one device gives into all collectives of a kind.

        Args:
            kind: Such as "all-reduce".
        """
        return sum(entry.operand_bytes for entry in self.collectives if entry.kind == kind)

    def wire_bytes(self, *, across_slices: bool) -> float:
        """Returns what one device must send at least.

        Args:
            across_slices: Over the network between slices, or over the links within one.
        """
        return sum(
            (e.wire_bytes for e in self.collectives if e.across_slices == across_slices), start=0.0
        )


def program_costs(
    program: Module | str,
    *,
    slices: Sequence[int] | None = None,
    unknown_trips: int | None = None,
) -> ProgramCosts:
    """Returns the costs of a program per device and run.

    Of a conditional the most expensive branch counts: the one with most FLOPs of dots, then with
    most bytes in HBM.

    Args:
        program: `compiled.as_text()` of a jitted function, or what `hlo.parser.parse` made of it.
        slices: Slice of each device in the order of the mesh, flat (`device.slice_index`); None:
            all devices are of one slice.
        unknown_trips: Trips of a loop whose number the text does not tell; `unknown` names each.

    Raises:
        ValueError: The text is no HLO, or a loop's trips are not told and `unknown_trips` is None.
    """
    module = parse(program) if isinstance(program, str) else program
    return _Accountant(module, slices=slices, unknown_trips=unknown_trips).bill()


@dataclasses.dataclass
class _Tally:
    """Sums, as they grow."""

    flops: int = 0
    elementwise_flops: int = 0
    transcendentals: int = 0
    hbm_bytes: int = 0
    collectives: dict[tuple[str, int, bool], tuple[int, int]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(lambda: (0, 0))
    )
    unknown: dict[str, None] = dataclasses.field(default_factory=dict)

    def add(self, other: "_Tally", *, times: int = 1) -> None:
        self.flops += times * other.flops
        self.elementwise_flops += times * other.elementwise_flops
        self.transcendentals += times * other.transcendentals
        self.hbm_bytes += times * other.hbm_bytes
        for key, (count, size) in other.collectives.items():
            self._add_messages(key, times * count, times * size)
        self.unknown |= other.unknown

    def add_collective(self, entry: Collective) -> None:
        key = (entry.kind, entry.group_size, entry.across_slices)
        self._add_messages(key, entry.count, entry.operand_bytes)

    def messages(self) -> tuple[Collective, ...]:
        return tuple(
            Collective(
                kind=kind, group_size=size, across_slices=across, count=count, operand_bytes=given
            )
            for (kind, size, across), (count, given) in sorted(self.collectives.items())
        )

    def _add_messages(self, key: tuple[str, int, bool], count: int, size: int) -> None:
        old_count, old_size = self.collectives[key]
        self.collectives[key] = (old_count + count, old_size + size)


class _Accountant:
    """Walks the executed computations of one program, each once."""

    def __init__(self, module: Module, *, slices: Sequence[int] | None, unknown_trips: int | None):
        self._module, self._slices, self._unknown_trips = module, slices, unknown_trips
        self._executed: dict[str, _Tally] = {}
        self._fused: dict[str, _Tally] = {}

    def bill(self) -> ProgramCosts:
        total = self._computation(self._module.computations[self._module.entry])
        return ProgramCosts(
            flops=total.flops,
            elementwise_flops=total.elementwise_flops,
            transcendentals=total.transcendentals,
            hbm_bytes=total.hbm_bytes,
            collectives=total.messages(),
            unknown=tuple(total.unknown),
        )

    def _computation(self, computation: Computation) -> _Tally:
        if computation.name not in self._executed:
            total = _Tally()
            for instruction in computation.instructions.values():
                self._add_instruction(total, computation, instruction)
            self._executed[computation.name] = total
        return self._executed[computation.name]

    def _add_instruction(
        self, total: _Tally, computation: Computation, instruction: Instruction
    ) -> None:
        opcode = instruction.opcode.removesuffix("-start")
        total.hbm_bytes += hbm_bytes(self._module, computation, instruction)
        if opcode == "while":
            self._add_loop(total, computation, instruction)
        elif opcode == "conditional":
            total.add(self._dearest_branch(instruction))
        elif opcode == "fusion":
            total.add(self._fusion(self._module.called(instruction, "calls")))
        elif opcode in ("call", "async"):
            attribute = "to_apply" if instruction.called("to_apply") else "calls"
            total.add(self._computation(self._module.called(instruction, attribute)))
        elif opcode == "custom-call":
            _add_custom_call(total, instruction)
        elif collective_kind(opcode):
            total.add_collective(
                collective(self._module, computation, instruction, slices=self._slices)
            )
        elif exchange := slice_transfer(computation, instruction):
            total.add_collective(exchange)
        else:
            _add_arithmetic(total, computation, instruction)

    def _fusion(self, fused: Computation) -> _Tally:
        if fused.name not in self._fused:
            total = _Tally()
            for instruction in fused.instructions.values():
                if instruction.opcode == "fusion":
                    total.add(self._fusion(self._module.called(instruction, "calls")))
                elif instruction.opcode == "custom-call":
                    _add_custom_call(total, instruction)
                else:
                    _add_arithmetic(total, fused, instruction)
            for message in fused_collectives(self._module, fused, slices=self._slices):
                total.add_collective(message)
            self._fused[fused.name] = total
        return self._fused[fused.name]

    def _add_loop(self, total: _Tally, computation: Computation, loop: Instruction) -> None:
        trips = trip_count(self._module, computation, loop)
        if trips is None:
            trips = self._assumed_trips(total, loop)
        total.add(self._computation(self._module.called(loop, "body")), times=trips)
        total.add(self._computation(self._module.called(loop, "condition")), times=trips + 1)

    def _assumed_trips(self, total: _Tally, loop: Instruction) -> int:
        name = f"the loop {loop.name}{_named_origin(loop)}"
        if self._unknown_trips is None:
            raise ValueError(
                f"The program does not tell how often {name} runs; give unknown_trips, the number "
                "that shall count for such loops, or bound it by a constant (jax.lax.fori_loop)."
            )
        total.unknown[f"Trips of {name}: counted as {self._unknown_trips}."] = None
        return self._unknown_trips

    def _dearest_branch(self, conditional: Instruction) -> _Tally:
        listed = conditional.attribute("branch_computations")
        names = (
            re.findall(r"%([\w.\-]+)", listed)
            if listed
            else [
                conditional.called("true_computation"),
                conditional.called("false_computation"),
            ]
        )
        branches = [self._computation(self._module.computations[str(name)]) for name in names]
        return max(branches, key=lambda branch: (branch.flops, branch.hbm_bytes))


def _add_arithmetic(total: _Tally, computation: Computation, instruction: Instruction) -> None:
    total.flops += matmul_flops(computation, instruction)
    total.elementwise_flops += elementwise_flops(computation, instruction)
    total.transcendentals += transcendentals(instruction)


def _add_custom_call(total: _Tally, call: Instruction) -> None:
    if computes_nothing(call):
        return
    estimate = cost_estimate(call)
    if estimate is None:
        named = f"{target(call)} ({call.name}{_named_origin(call)})"
        total.unknown[
            f"FLOPs of the custom call {named}: counted as 0, its bytes as those of its operands "
            "and results."
        ] = None
        return
    total.flops += estimate.flops
    total.transcendentals += estimate.transcendentals


def _named_origin(instruction: Instruction) -> str:
    return f" of {instruction.origin}" if instruction.origin else ""
