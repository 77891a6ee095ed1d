"""Messages between devices: which collective, among how many, within a slice or across slices."""

import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np

from codet5p_jax.training.hlo.parser import (
    Computation,
    Instruction,
    Module,
    integers,
    starts_collective,
)

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_LISTED = re.compile(r"replica_groups=\{((?:\{[\d,]*\},?)*)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(
    r"replica_groups=mesh\[([^\]]*)\]"
    r"(?:, device_ids=\((\[?[\d,]+\]?(?:T\([\d,]+\))?)\))? \{(.*?)\}"
)
_PAIR = re.compile(r"\{(\d+),(\d+)\}")
# What TPU's runtime exchanges between slices: the program hands it over by a send.
_SLICE_TRANSFER = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_SLICE_TARGET = re.compile(r'_xla_megascale_target="\{([\d,:]*)\}')
_KINDS_OF_TRANSFERS = {"ONE_TO_ONE": "collective-permute"}  # others are named as collectives are


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """Collectives of one kind among as many devices, over a whole program.

    Attributes:
        kind: One of KINDS.
        group_size: Devices of a group; of a permutation, those that send.
        across_slices: Whether a group reaches over several slices, and so over their network.
        count: How often it runs.
        operand_bytes: What one device gives into it, all runs together, without padding: of an
            all-reduce and a reduce-scatter the whole array, of an all-gather the device's share.
    """

    kind: str
    group_size: int
    across_slices: bool
    count: int
    operand_bytes: int

    @property
    def wire_bytes(self) -> float:
        """Returns what one device must send at least, all runs together.

        Of n devices: 2 (n - 1) / n times the operand for an all-reduce, (n - 1) / n for a
        reduce-scatter and an all-to-all, n - 1 times its share for an all-gather, once the
        operand for a permutation or a broadcast.
        """
        share = (self.group_size - 1) / self.group_size
        if self.kind == "all-reduce":
            return 2 * share * self.operand_bytes
        if self.kind == "all-gather":
            return float((self.group_size - 1) * self.operand_bytes)
        if self.kind in ("reduce-scatter", "all-to-all", "ragged-all-to-all"):
            return share * self.operand_bytes
        return float(self.operand_bytes)


def collective_kind(opcode: str) -> str | None:
    """Returns the kind of collective that an opcode runs or starts; None: it does not.

    Args:
        opcode: Such as "all-gather-start".
    """
    kind = opcode.removesuffix("-start")
    return kind if kind in KINDS else None


def collective(
    module: Module,
    computation: Computation,
    instruction: Instruction,
    *,
    slices: Sequence[int] | None,
) -> Collective:
    """Returns one run of a collective.

    Args:
        module: Of the instruction.
        computation: That holds the instruction.
        instruction: Whose `collective_kind` is not None.
        slices: Slice of each device in the order of the mesh, flat; None: all are of one.

    Raises:
        ValueError: Its groups cannot be read, or name devices that `slices` does not have.
    """
    kind = collective_kind(instruction.opcode)
    groups = _groups(module, instruction)
    return Collective(
        kind=str(kind),
        group_size=max(map(len, groups)) if kind != "collective-permute" else len(groups),
        across_slices=slices is not None and _reaches_over(groups, slices, instruction=instruction),
        count=1,
        operand_bytes=sum(
            buffer.dense_bytes
            for name in instruction.operands
            for buffer in computation.instructions[name].buffers
        ),
    )


def fused_collectives(
    module: Module, fused: Computation, *, slices: Sequence[int] | None
) -> Iterator[Collective]:
    """Yields the collectives that a fusion runs or starts, and not those that it only continues.

    Args:
        module: Of the fusion.
        fused: The computation of the fusion; fusions inside it are not searched.
        slices: As for `collective`.

    Raises:
        ValueError: As `collective`.
    """
    for instruction in fused.instructions.values():
        if collective_kind(instruction.opcode) and not is_continued(module, fused, instruction):
            message = collective(module, fused, instruction, slices=slices)
            scattered = message.kind == "all-reduce" and _is_scattered(fused, instruction)
            yield dataclasses.replace(message, kind="reduce-scatter") if scattered else message


def slice_transfer(computation: Computation, instruction: Instruction) -> Collective | None:
    """Returns the exchange between slices that a send hands to the runtime; None: it is none.

    Args:
        computation: That holds the instruction.
        instruction: Any.

    Raises:
        ValueError: Its slices cannot be read.
    """
    transfer = _SLICE_TRANSFER.search(instruction.attributes_text)
    if instruction.opcode != "send" or transfer is None:
        return None
    target = _SLICE_TARGET.search(instruction.attributes_text)
    if target is None:
        raise ValueError(
            f"{instruction.name} (send) names no slices that it exchanges with: "
            f"{instruction.attributes_text[:200]!r}; known is "
            '_xla_megascale_target="{1,2}x{0:15}".'
        )
    named = transfer.group(1)
    return Collective(
        kind=_KINDS_OF_TRANSFERS.get(named, named.lower().replace("_", "-")),
        group_size=_size_of_ranges(target.group(1)),
        across_slices=True,
        count=1,
        operand_bytes=sum(
            buffer.dense_bytes for buffer in computation.operand(instruction, 0).buffers
        ),
    )


def is_continued(module: Module, fused: Computation, instruction: Instruction) -> bool:
    """Returns whether a collective is the copy of one that an earlier fusion has started.

    Args:
        module: Of the collective.
        fused: Computation of a fusion, that holds it.
        instruction: The collective.
    """
    channel = instruction.attribute("channel_id")
    return channel in module.started_channels and not starts_collective(fused)


def _is_scattered(fused: Computation, reduction: Instruction) -> bool:
    """Returns whether each device keeps only its part of a sum: TPU's way to reduce and scatter."""
    users = list(fused.users[reduction.name])
    while len(users) == 1 and users[0].opcode in ("bitcast", "reshape"):
        users = list(fused.users[users[0].name])
    return bool(users) and all(user.opcode == "dynamic-slice" for user in users)


def _groups(module: Module, instruction: Instruction) -> Sequence[Sequence[int]]:
    text = instruction.attributes_text
    if instruction.opcode.startswith("collective-permute"):
        pairs = instruction.attribute("source_target_pairs") or ""
        return [(int(source), int(target)) for source, target in _PAIR.findall(pairs)]
    if listed := _LISTED.search(text):
        rows = re.findall(r"\{([\d,]+)\}", listed.group(1))
        groups = [[int(device) for device in row.split(",")] for row in rows]
        return groups or [range(module.devices)]
    if iota := _IOTA.search(text):
        shape, sizes, order = (integers(part) for part in iota.groups())
        return _transposed(sizes, order).reshape(shape).tolist()
    if mesh := _MESH.search(text):
        return _mesh_groups(*mesh.groups())
    raise ValueError(
        f"{instruction.name} ({instruction.opcode}) has replica groups of an unknown form: "
        f"{text[:120]!r}; known are {{{{0,1}},{{2,3}}}}, [2,2]<=[4] and mesh['axis'=2] {{'axis'}}."
    )


def _mesh_groups(axes: str, devices: str | None, named: str) -> Sequence[Sequence[int]]:
    """Returns the groups along some axes of a mesh.

    Args:
        axes: "'a'=2,'b'=4".
        devices: "[4,2]T(1,0)", or a list of ids; None: in order.
        named: "'a'", or "'a':(1)2" for a part of an axis: 2 of it, after the 1 most major.
    """
    sizes, chosen = [], []
    parts = {
        name: (int(before or 1), int(size)) if size else None
        for name, before, size in re.findall(r"'([^']*)'(?::\((\d+)\)(\d+))?", named)
    }
    for name, text in re.findall(r"'([^']*)'=(\d+)", axes):
        size = int(text)
        before, inside = (parts[name] or (1, size)) if name in parts else (size, 1)
        sizes += [before, inside, size // (before * inside)]
        chosen += [False, True, False]
    ids = _device_ids(devices, sizes)
    kept = [axis for axis, is_chosen in enumerate(chosen) if not is_chosen]
    within = [axis for axis, is_chosen in enumerate(chosen) if is_chosen]
    width = int(np.prod([sizes[axis] for axis in within]))
    return ids.transpose(kept + within).reshape(-1, width).tolist()


def _device_ids(text: str | None, sizes: Sequence[int]) -> np.ndarray:
    if text is None:
        return np.arange(int(np.prod(sizes))).reshape(sizes)
    if not text.startswith("["):
        return np.asarray(integers(text)).reshape(sizes)
    shape, _, order = text.partition("T")
    return _transposed(integers(shape), integers(order)).reshape(sizes)


def _transposed(sizes: Sequence[int], order: Sequence[int]) -> np.ndarray:
    ids = np.arange(int(np.prod(sizes))).reshape(sizes)
    return ids.transpose(order) if order else ids


def _size_of_ranges(text: str) -> int:
    """Returns how many numbers "1,2" or "0:15" name."""
    ends = [[int(number) for number in part.split(":")] for part in text.split(",")]
    return sum(last - first + 1 for first, *_, last in ([*end, end[-1]] for end in ends))


def _reaches_over(
    groups: Sequence[Sequence[int]], slices: Sequence[int], *, instruction: Instruction
) -> bool:
    most = max((max(group) for group in groups), default=-1)
    if most >= len(slices):
        raise ValueError(
            f"{instruction.name} ({instruction.opcode}) names device {most}, and slices has only "
            f"{len(slices)}; give the slice of every device of the mesh."
        )
    return any(len({slices[device] for device in group}) > 1 for group in groups)
