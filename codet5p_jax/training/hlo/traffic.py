"""Bytes that one instruction reads and writes in HBM.

An instruction reads its operands and writes its result, padding of tiles included, as far as they
lie in HBM; what lies in VMEM moves for nothing. What is inside a fusion moves nothing. A slice
moves what it takes, an update in place what it puts, also where they begin or end a fusion. A
matrix product whose tiles read an operand several times is counted as if it read it once.
"""

import itertools
import math
from collections.abc import Sequence

from codet5p_jax.training.hlo.arithmetic import ELEMENTWISE
from codet5p_jax.training.hlo.collectives import collective_kind, is_continued
from codet5p_jax.training.hlo.custom_calls import cost_estimate, is_free
from codet5p_jax.training.hlo.parser import (
    Computation,
    Instruction,
    Module,
    custom_call,
    starts_collective,
)
from codet5p_jax.training.hlo.shapes import HBM, Buffer, buffers_of_type, elements_of_tuple

# They name memory, or run other computations, whose instructions are counted instead.
# fmt: off
_MOVES_NOTHING = frozenset({
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional",
    "call", "after-all", "optimization-barrier", "partition-id", "replica-id",
    "add-dependency", "domain", "get-dimension-size", "set-dimension-size", "async",
})
# fmt: on
# A fusion computes of these only the elements that it needs, so what a slice leaves out behind
# them is not read.
_FOLLOWED = frozenset({"bitcast", "reshape", "transpose", "copy", "pad"}) | ELEMENTWISE
_KnownShares = dict[tuple[str, str], float]  # (computation, array) -> share of it that is read
_SLICES = frozenset({"slice", "dynamic-slice", "gather"})


def hbm_bytes(module: Module, computation: Computation, instruction: Instruction) -> int:
    """Returns the bytes that an executed instruction reads and writes in HBM.

    Args:
        module: Of the instruction.
        computation: That holds the instruction; no fusion's.
        instruction: Any. A start counts what its pair moves, a done nothing.
    """
    opcode = instruction.opcode.removesuffix("-start")
    if opcode in _MOVES_NOTHING or opcode.endswith(("-done", "-update")):
        return 0
    if opcode == "custom-call" and is_free(instruction):
        return 0
    if opcode == "custom-call" and (estimate := cost_estimate(instruction)):
        return max(0, estimate.bytes_accessed - _bytes_elsewhere(computation, instruction))
    if opcode == "fusion":
        return _fusion_bytes(module, computation, instruction)
    if opcode == "send":  # its result names its operand
        return _bytes(_buffers(computation, instruction.operands[0]))
    written = _written_buffers(instruction, opcode)
    if opcode in _SLICES:
        return _slice_bytes(computation, instruction, written)
    if opcode in ("dynamic-update-slice", "scatter"):
        return _update_bytes(computation, instruction, written)
    operands = dict.fromkeys(instruction.operands)
    return _bytes(written) + sum(_bytes(_buffers(computation, name)) for name in operands)


def _bytes(buffers: Sequence[Buffer]) -> int:
    return sum(buffer.hbm_bytes for buffer in buffers)


def _buffers(computation: Computation, name: str) -> Sequence[Buffer]:
    return computation.instructions[name].buffers


def _bytes_elsewhere(computation: Computation, call: Instruction) -> int:
    """Returns the bytes of a kernel's operands and results that do not lie in HBM, as it counts."""
    operands = (_buffers(computation, name) for name in dict.fromkeys(call.operands))
    buffers = itertools.chain(call.buffers, *operands)
    return sum(buffer.dense_bytes for buffer in buffers if buffer.memory_space != HBM)


def _written_buffers(instruction: Instruction, opcode: str) -> Sequence[Buffer]:
    """Returns the result; a start's tuple also holds the operands and flags."""
    if not instruction.opcode.endswith("-start") or opcode == "all-reduce":
        return instruction.buffers
    elements = elements_of_tuple(instruction.type_text)
    return buffers_of_type(elements[0] if opcode == "copy" or len(elements) == 1 else elements[1])


def _slice_bytes(
    computation: Computation, instruction: Instruction, written: Sequence[Buffer]
) -> int:
    source, *indices = (_buffers(computation, name) for name in instruction.operands)
    read = math.ceil(_share(written, source) * _bytes(source))
    return _bytes(written) + read + sum(map(_bytes, indices))


def _update_bytes(
    computation: Computation, instruction: Instruction, written: Sequence[Buffer]
) -> int:
    """Returns what an update moves: a scatter also reads what it adds to."""
    _, *others = (_buffers(computation, name) for name in instruction.operands)
    updates = _updates(computation, instruction)
    passes = 2 if instruction.opcode == "scatter" else 1
    changed = math.ceil(passes * _share(updates, written) * _bytes(written))
    return changed + sum(map(_bytes, others))


def _updates(computation: Computation, instruction: Instruction) -> Sequence[Buffer]:
    position = 1 if instruction.opcode == "dynamic-update-slice" else -1
    return _buffers(computation, instruction.operands[position])


def _share(part: Sequence[Buffer], whole: Sequence[Buffer]) -> float:
    elements = sum(buffer.elements for buffer in whole)
    return min(1.0, sum(buffer.elements for buffer in part) / elements) if elements else 0.0


def _fusion_bytes(module: Module, computation: Computation, fusion: Instruction) -> int:
    fused = module.called(fusion, "calls")
    if custom_call(fused, "AsyncCollectiveDone") is not None:
        return 0
    known: _KnownShares = {}
    total = 0.0
    for position, name in enumerate(fusion.operands):
        if size := _bytes(_buffers(computation, name)):
            total += size * _share_read(module, fused, fused.parameters[position], known=known)
    if starts_collective(fused):  # its result begins with its operands, which do not move
        return math.ceil(total) + _bytes(fusion.buffers[len(fusion.operands) :])
    written = _shares_written(module, fused)
    for buffer, share in zip(fusion.buffers, written, strict=True):
        total += buffer.hbm_bytes * share
    return math.ceil(total)


def _share_read(module: Module, fused: Computation, name: str, *, known: _KnownShares) -> float:
    """Returns the share of an array that the rest of a fusion reads; known keeps what it found."""
    key = (fused.name, name)
    if key not in known:
        uses = (
            _share_used(module, fused, user, name=name, known=known) for user in fused.users[name]
        )
        known[key] = min(1.0, sum(uses))
    return known[key]


def _share_used(
    module: Module, fused: Computation, user: Instruction, *, name: str, known: _KnownShares
) -> float:
    opcode, source = user.opcode, user.operands[0]
    if opcode in _FOLLOWED and user.name != fused.root:
        return _share_read(module, fused, user.name, known=known)
    if opcode in _SLICES and source == name:
        return _share(user.buffers, _buffers(fused, source))
    if opcode in ("dynamic-update-slice", "scatter") and source == name:
        if not _is_in_place(module, fused, user):
            return 1.0
        return _share(_updates(fused, user), user.buffers) if opcode == "scatter" else 0.0
    if opcode == "fusion":
        called = module.called(user, "calls")
        positions = (i for i, operand in enumerate(user.operands) if operand == name)
        return sum(
            _share_read(module, called, called.parameters[i], known=known) for i in positions
        )
    if opcode == "tuple" and fused.instructions[name].opcode == "parameter":
        return 0.0  # handed through
    if collective_kind(opcode) and is_continued(module, fused, user):
        return 0.0
    return 1.0


def _shares_written(module: Module, fused: Computation) -> list[float]:
    """Returns which share of each of its results a fusion writes."""
    root = fused.instructions[fused.root]
    outputs = root.operands if root.opcode == "tuple" else (root.name,)
    shares = []
    for name in outputs:
        count = len(_buffers(fused, name))
        share = _share_written(module, fused, name)
        shares += share if len(share) == count else [1.0] * count
    return shares


def _share_written(module: Module, fused: Computation, name: str) -> list[float]:
    instruction = fused.instructions[name]
    if instruction.opcode == "bitcast":
        return _share_written(module, fused, instruction.operands[0])
    if instruction.opcode == "parameter":
        return [0.0]
    is_update = instruction.opcode in ("dynamic-update-slice", "scatter")
    if is_update and _is_in_place(module, fused, instruction):
        return [_share(_updates(fused, instruction), instruction.buffers)]
    if instruction.opcode == "fusion":
        return _shares_written(module, module.called(instruction, "calls"))
    if collective_kind(instruction.opcode) and is_continued(module, fused, instruction):
        return [0.0]
    return [1.0]


def _is_in_place(module: Module, fused: Computation, update: Instruction) -> bool:
    """Returns whether an update writes into a parameter: its array is neither made nor copied."""
    source = fused.operand(update, 0)
    while source.opcode == "bitcast":
        source = fused.operand(source, 0)
    return source.opcode == "parameter"
