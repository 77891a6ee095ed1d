"""Arithmetic of one instruction.

Multiply and add are two FLOPs. Of a convolution only those count whose input is neither padding
nor a hole of dilation, as in XLA's own analysis; so a batched matrix product, which TPU programs
write as a convolution, costs exactly what the product costs.
"""

import dataclasses
import functools
import math
import re

import numpy as np

from codet5p_jax.training.hlo.parser import Computation, Instruction, integers
from codet5p_jax.training.hlo.shapes import Buffer

# What XLA counts as one FLOP per element of the result, and as one transcendental.
# fmt: off
ELEMENTWISE = frozenset({
    "abs", "add", "and", "clamp", "clz", "compare", "complex", "convert",
    "count-leading-zeros", "divide", "imag", "is-finite", "maximum", "minimum", "multiply",
    "negate", "not", "or", "popcnt", "real", "reduce-precision", "remainder",
    "round-nearest-afz", "round-nearest-even", "select", "shift-left",
    "shift-right-arithmetic", "shift-right-logical", "sign", "subtract", "xor", "ceil",
    "floor", "stochastic-convert",
})
_TRANSCENDENTAL = frozenset({
    "cbrt", "cosine", "erf", "exponential", "exponential-minus-one", "log", "log-plus-one",
    "logistic", "power", "rsqrt", "sine", "sqrt", "tan", "tanh", "atan2",
})
# fmt: on


@dataclasses.dataclass(frozen=True)
class _Window:
    """One spatial dimension of a convolution."""

    size: int
    stride: int
    pad_low: int
    base_dilation: int
    window_dilation: int


def matmul_flops(computation: Computation, instruction: Instruction) -> int:
    """Returns the FLOPs of a dot or a convolution, which run on the matrix units; else 0.

    Args:
        computation: That holds the instruction.
        instruction: Any.
    """
    if instruction.opcode == "dot":
        return _dot_flops(computation, instruction)
    if instruction.opcode == "convolution":
        return _convolution_flops(computation, instruction)
    return 0


def elementwise_flops(computation: Computation, instruction: Instruction) -> int:
    """Returns the elements that arithmetic other than dots computes, reductions included.

    Args:
        computation: That holds the instruction.
        instruction: Any.
    """
    if instruction.opcode in ELEMENTWISE:
        return _elements(instruction)
    if instruction.opcode == "reduce":
        return computation.operand(instruction, 0).buffers[0].elements - _elements(instruction)
    return 0


def transcendentals(instruction: Instruction) -> int:
    """Returns the elements of which it computes an exponential, a root or the like.

    Args:
        instruction: Any.
    """
    return _elements(instruction) if instruction.opcode in _TRANSCENDENTAL else 0


def _elements(instruction: Instruction) -> int:
    return instruction.buffers[0].elements


def _dot_flops(computation: Computation, dot: Instruction) -> int:
    left = computation.operand(dot, 0).buffers[0]
    contracted = integers(dot.attribute("lhs_contracting_dims"))
    return 2 * _elements(dot) * math.prod(left.dimensions[axis] for axis in contracted)


def _convolution_flops(computation: Computation, convolution: Instruction) -> int:
    labels = convolution.attribute("dim_labels") or ""
    inputs, _, rest = labels.partition("_")
    kernel, _, outputs = rest.partition("->")
    image, result = computation.operand(convolution, 0).buffers[0], convolution.buffers[0]
    positions = 1
    for axis, window in enumerate(_windows(convolution.attribute("window"), kernel)):
        positions *= _valid_positions(
            window,
            inputs=_size(image, inputs, str(axis)),
            outputs=_size(result, outputs, str(axis)),
        )
    groups = int(convolution.attribute("feature_group_count") or 1)
    batches = int(convolution.attribute("batch_group_count") or 1)
    channels = _size(image, inputs, "f") // groups * _size(result, outputs, "f")
    return 2 * positions * channels * (_size(image, inputs, "b") // batches)


def _size(buffer: Buffer, labels: str, label: str) -> int:
    return buffer.dimensions[labels.index(label)]


def _windows(text: str | None, kernel_labels: str) -> list[_Window]:
    """Returns the windows of the spatial dimensions, in their order."""
    fields = dict(re.findall(r"(\w+)=([\w\-]+)", text or ""))
    count = sum(label.isdigit() for label in kernel_labels)

    def field(name: str, default: str) -> list[str]:
        return fields[name].split("x") if name in fields else [default] * count

    return [
        _Window(
            size=int(size),
            stride=int(stride),
            pad_low=int(pad.split("_")[0]),
            base_dilation=int(base),
            window_dilation=int(dilation),
        )
        for size, stride, pad, base, dilation in zip(
            field("size", "1"),
            field("stride", "1"),
            field("pad", "0_0"),
            field("lhs_dilate", "1"),
            field("rhs_dilate", "1"),
            strict=True,
        )
    ]


@functools.cache
def _valid_positions(window: _Window, *, inputs: int, outputs: int) -> int:
    """Returns how many pairs of a kernel and an output position read an element of the input."""
    starts = np.arange(outputs) * window.stride - window.pad_low
    extent = (inputs - 1) * window.base_dilation + 1
    total = 0
    for tap in range(window.size):
        read = starts + tap * window.window_dilation
        total += np.sum((read >= 0) & (read < extent) & (read % window.base_dilation == 0))
    return int(total)
