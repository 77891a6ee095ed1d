"""How often the body of a while loop runs.

Where the compiler tells (`known_trip_count`), that counts. TPU programs do not tell: there the
counter is followed from its first value through the body to the condition, as long as it is a
constant, plus a constant in each trip, compared with a constant.
"""

import dataclasses
import re
from collections.abc import Callable

from codet5p_jax.training.hlo.parser import Computation, Instruction, Module

_KNOWN = re.compile(r'"?known_trip_count"?:\s*\{\s*"?n"?:\s*"?(\d+)')
_TRANSPARENT = {"copy", "bitcast", "reshape", "convert", "optimization-barrier", "broadcast"}
_MIRRORED = {"LT": "GT", "GT": "LT", "LE": "GE", "GE": "LE", "EQ": "EQ", "NE": "NE"}


@dataclasses.dataclass(frozen=True)
class _Value:
    """An integer: an element of the loop's state (None: of no element) plus a constant."""

    element: int | None
    offset: int


_Argument = Callable[[int], _Value | None]


def trip_count(module: Module, computation: Computation, loop: Instruction) -> int | None:
    """Returns how often the body of a loop runs; None where the text does not tell.

    Args:
        module: Of the loop.
        computation: That holds the loop.
        loop: Its while instruction.
    """
    known = _KNOWN.search(loop.attributes_text)
    if known:
        return int(known.group(1))
    comparison = _comparison(module, loop)
    if comparison is None:
        return None
    counter, direction, limit = comparison
    first = _initial_value(module, computation, loop, element=counter)
    step = _step(module, loop, element=counter)
    end = limit.offset
    if limit.element is not None:  # a limit that the loop carries along unchanged
        if _step(module, loop, element=limit.element) != 0:
            return None
        carried = _initial_value(module, computation, loop, element=limit.element)
        if carried is None:
            return None
        end += carried
    return None if first is None or not step else _trips(first, end, step, direction=direction)


def _trips(first: int, end: int, step: int, *, direction: str) -> int | None:
    distance, stride = (end - first, step) if step > 0 else (first - end, -step)
    if direction == ("LT" if step > 0 else "GT"):
        return max(0, -(-distance // stride))
    if direction == ("LE" if step > 0 else "GE"):
        return max(0, distance // stride + 1)
    if direction == "NE" and distance >= 0 and distance % stride == 0:
        return distance // stride
    return None


def _comparison(module: Module, loop: Instruction) -> tuple[int, str, _Value] | None:
    """Returns the counted element, the direction, and the limit (less the counter's offset)."""
    sides = _compared(module, module.called(loop, "condition"), _no_argument)
    if sides is None:
        return None
    left, direction, right = sides
    if left is None or right is None:
        return None
    if left.element is None or (right.element is not None and _step_is_zero(module, loop, left)):
        left, right, direction = right, left, _MIRRORED[direction]
    if left.element is None:
        return None
    return left.element, direction, _Value(right.element, right.offset - left.offset)


def _compared(
    module: Module, computation: Computation, argument: _Argument
) -> tuple[_Value | None, str, _Value | None] | None:
    root = computation.instructions[computation.root]
    while root.opcode in _TRANSPARENT:
        root = computation.operand(root, 0)
    if root.opcode == "fusion":
        called = module.called(root, "calls")
        return _compared(module, called, _arguments_of(module, computation, root, argument))
    direction = root.attribute("direction")
    if root.opcode != "compare" or direction is None:
        return None
    left, right = (
        _value(module, computation, operand, argument=argument) for operand in root.operands
    )
    return left, direction, right


def _step_is_zero(module: Module, loop: Instruction, value: _Value) -> bool:
    return value.element is not None and _step(module, loop, element=value.element) == 0


def _step(module: Module, loop: Instruction, *, element: int) -> int | None:
    """Returns what a trip adds to an element of the state; None where it is no constant."""
    body = module.called(loop, "body")
    root = body.instructions[body.root]
    if root.opcode != "tuple":
        return None
    value = _value(module, body, root.operands[element], argument=_no_argument)
    return value.offset if value is not None and value.element == element else None


def _initial_value(
    module: Module, computation: Computation, loop: Instruction, *, element: int
) -> int | None:
    state = computation.operand(loop, 0)
    while state.opcode in ("copy", "optimization-barrier"):
        state = computation.operand(state, 0)
    if state.opcode != "tuple":
        return None
    value = _value(module, computation, state.operands[element], argument=_no_argument)
    return value.offset if value is not None and value.element is None else None


def _no_argument(number: int) -> _Value | None:
    return None


def _arguments_of(
    module: Module, computation: Computation, caller: Instruction, argument: _Argument
) -> _Argument:
    """Returns the values that a fusion's computation gets from its caller."""

    def value_of(number: int) -> _Value | None:
        return _value(module, computation, caller.operands[number], argument=argument)

    return value_of


def _value(
    module: Module, computation: Computation, name: str, *, argument: _Argument
) -> _Value | None:
    instruction = computation.instructions[name]
    if instruction.opcode in _TRANSPARENT:
        return _value(module, computation, instruction.operands[0], argument=argument)
    if instruction.opcode == "constant":
        is_integer = re.fullmatch(r"-?\d+", instruction.arguments)
        return _Value(None, int(instruction.arguments)) if is_integer else None
    if instruction.opcode == "parameter":
        return argument(int(instruction.arguments))
    if instruction.opcode in ("add", "subtract"):
        left, right = (
            _value(module, computation, operand, argument=argument)
            for operand in instruction.operands
        )
        return _sum(left, right, sign=1 if instruction.opcode == "add" else -1)
    if instruction.opcode == "get-tuple-element":
        return _element(module, computation, instruction, argument=argument)
    if instruction.opcode == "fusion":
        return _fused(module, computation, instruction, element=None, argument=argument)
    return None


def _sum(left: _Value | None, right: _Value | None, *, sign: int) -> _Value | None:
    if left is None or right is None:
        return None
    if right.element is None:
        return _Value(left.element, left.offset + sign * right.offset)
    if left.element is None and sign > 0:
        return _Value(right.element, left.offset + right.offset)
    return None


def _element(
    module: Module, computation: Computation, instruction: Instruction, *, argument: _Argument
) -> _Value | None:
    source = computation.operand(instruction, 0)
    element = int(instruction.attribute("index") or 0)
    if source.opcode == "parameter":
        return _Value(element, 0)
    if source.opcode == "tuple":
        return _value(module, computation, source.operands[element], argument=argument)
    if source.opcode == "fusion":
        return _fused(module, computation, source, element=element, argument=argument)
    return None


def _fused(
    module: Module,
    computation: Computation,
    fusion: Instruction,
    *,
    element: int | None,
    argument: _Argument,
) -> _Value | None:
    called = module.called(fusion, "calls")
    root = called.instructions[called.root]
    name = root.name if element is None else root.operands[element]
    if element is not None and root.opcode != "tuple":
        return None
    return _value(
        module, called, name, argument=_arguments_of(module, computation, fusion, argument)
    )
