"""HLO text, as `compiled.as_text()` gives it -> computations and their instructions."""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence

from codet5p_jax.training.hlo.shapes import Buffer, buffers_of_type

_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*?)\s([a-z][\w\-]*)\((.*)$")
_OPERAND = re.compile(r"%([\w.\-]+)")
_PARENTHESIS = re.compile(r"[()]")
_OP_NAME = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: Unique in its computation.
        opcode: Such as "dot" or "all-reduce-start".
        type_text: Type of the result.
        operands: Names of the instructions it reads, in order.
        arguments: Text between its parentheses; the number of a parameter, the value of a
            constant.
        attributes_text: All that follows.
    """

    name: str
    opcode: str
    type_text: str
    operands: tuple[str, ...]
    arguments: str
    attributes_text: str

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Returns the arrays of the result, flat."""
        return buffers_of_type(self.type_text)

    @property
    def origin(self) -> str:
        """Returns where in the traced function it comes from; empty where the compiler made it."""
        found = _OP_NAME.search(self.attributes_text)
        return found.group(1).replace("\\'", "'") if found else ""  # params['x']

    def attribute(self, name: str) -> str | None:
        """Returns the text of an attribute, such as "{1}" of `lhs_contracting_dims`; None: absent.

        Args:
            name: As printed before its "=".
        """
        text = self.attributes_text
        start = _attribute_pattern(name).search(text, 0, _end_of_attributes(text))
        return None if start is None else _balanced(text, start.end())

    def called(self, name: str) -> str | None:
        """Returns the computation that an attribute such as "calls" or "body" names.

        Args:
            name: Of the attribute.
        """
        value = self.attribute(name)
        return None if value is None else value.removeprefix("%")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Computation:
    """A function of the program.

    Attributes:
        name: Unique in the module.
        instructions: Name -> instruction, in the order of execution.
        root: Name of the instruction whose result it returns.
    """

    name: str
    instructions: Mapping[str, Instruction]
    root: str

    @functools.cached_property
    def users(self) -> Mapping[str, Sequence[Instruction]]:
        """Returns name -> instructions that read it."""
        users: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                users[operand].append(instruction)
        return users

    @functools.cached_property
    def parameters(self) -> Mapping[int, str]:
        """Returns number -> name of its parameters."""
        return {
            int(instruction.arguments): instruction.name
            for instruction in self.instructions.values()
            if instruction.opcode == "parameter"
        }

    def operand(self, instruction: Instruction, position: int) -> Instruction:
        """Returns an instruction that another reads.

        Args:
            instruction: The reader.
            position: Among its operands.
        """
        return self.instructions[instruction.operands[position]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Module:
    """A program, as one device runs it.

    Attributes:
        computations: Name -> computation.
        entry: Name of the one that runs.
        devices: How many run it together.
    """

    computations: Mapping[str, Computation]
    entry: str
    devices: int

    @functools.cached_property
    def started_channels(self) -> frozenset[str]:
        """Returns the channels of collectives that one fusion starts and others continue.

        TPU programs spread a collective over fusions that compute meanwhile. Each holds a copy of
        it, with its channel; only the first calls AsyncCollectiveStart.
        """
        return frozenset(
            channel
            for computation in self.computations.values()
            if starts_collective(computation)
            for instruction in computation.instructions.values()
            if (channel := instruction.attribute("channel_id")) is not None
        )

    def called(self, caller: Instruction, attribute: str) -> Computation:
        """Returns the computation that an instruction calls.

        Args:
            caller: The instruction.
            attribute: That names the computation, such as "calls".

        Raises:
            ValueError: There is no such computation.
        """
        name = caller.called(attribute)
        if name is None or name not in self.computations:
            raise ValueError(
                f"{caller.name} ({caller.opcode}) calls {attribute}={name}, which the text "
                "does not hold; give the whole text of compiled.as_text()."
            )
        return self.computations[name]


def starts_collective(computation: Computation) -> bool:
    """Returns whether a fusion's computation starts a collective that later fusions finish.

    Args:
        computation: Of the fusion.
    """
    return custom_call(computation, "AsyncCollectiveStart") is not None


def custom_call(computation: Computation, target: str) -> Instruction | None:
    """Returns the first custom call of a computation to a target; None: there is none.

    Args:
        computation: To search.
        target: Name of what is called.
    """
    calls = (
        instruction
        for instruction in computation.instructions.values()
        if instruction.opcode == "custom-call"
    )
    return next(
        (call for call in calls if call.attribute("custom_call_target") == f'"{target}"'), None
    )


def parse(text: str) -> Module:
    """Returns the program that a text describes.

    Args:
        text: `compiled.as_text()` of a jitted function.

    Raises:
        ValueError: It is no such text, or a line of it is no instruction.
    """
    computations, entry, lines = {}, None, iter(text.splitlines())
    for line in lines:
        header = _HEADER.match(line)
        if header and not line.startswith("HloModule"):
            computation = _computation(header.group(2), lines)
            computations[computation.name] = computation
            entry = computation.name if header.group(1) else entry
    if entry is None:
        raise ValueError(
            f"The text has no ENTRY computation but {text[:60]!r} ...; give what "
            "compiled.as_text() returns for a jitted function."
        )
    return Module(computations=computations, entry=entry, devices=_devices(text))


def _computation(name: str, lines: Iterator[str]) -> Computation:
    instructions, root = {}, ""
    for line in lines:
        if line.startswith("}"):
            break
        if not line or line.isspace():
            continue
        is_root, instruction = _instruction(line)
        instructions[instruction.name] = instruction
        root = instruction.name if is_root else root
    return Computation(name=name, instructions=instructions, root=root)


def _instruction(line: str) -> tuple[bool, Instruction]:
    found = _INSTRUCTION.match(line)
    if found is None:
        raise ValueError(f"{line[:120]!r} is no HLO instruction; nothing is skipped silently.")
    is_root, name, type_text, opcode, rest = found.groups()
    end = _closing_parenthesis(rest)
    arguments = rest[:end]
    return bool(is_root), Instruction(
        name=name,
        opcode=opcode,
        type_text=type_text,
        operands=() if opcode == "constant" else tuple(_OPERAND.findall(arguments)),
        arguments=arguments,
        attributes_text=rest[end + 1 :],
    )


def integers(text: str | None) -> list[int]:
    """Returns the numbers in a text, such as "{0,2}"; none where there is no text.

    Args:
        text: Of an attribute.
    """
    return [int(number) for number in re.findall(r"\d+", text or "")]


def _closing_parenthesis(text: str) -> int:
    end = text.find(")")
    if "(" not in text[:end]:
        return end
    depth = 1
    for parenthesis in _PARENTHESIS.finditer(text):
        depth += 1 if parenthesis.group() == "(" else -1
        if depth == 0:
            return parenthesis.start()
    return len(text)


@functools.cache
def _attribute_pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|, ){re.escape(name)}=")


def _end_of_attributes(text: str) -> int:
    """Returns where metadata and backend_config begin, whose strings could look like attributes."""
    ends = (text.find(mark) for mark in (", metadata={", ", backend_config="))
    return min((end for end in ends if end >= 0), default=len(text))


def _balanced(text: str, start: int) -> str:
    """Returns the text from start to the first comma, or its end, outside of brackets."""
    depth = 0
    for mark in re.compile(r"[{}()\[\],]").finditer(text, start):
        if mark.group() == "," and depth == 0:
            return text[start : mark.start()]
        depth += (mark.group() in "{([") - (mark.group() in "})]")
    return text[start:]


def _devices(text: str) -> int:
    header = text[: text.find("\n")]
    counts = re.findall(r"\b(?:num_partitions|replica_count)=(\d+)", header)
    total = 1
    for count in counts:
        total *= int(count)
    return total
