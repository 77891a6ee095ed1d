"""How the parameters of a family of models are called, and laid out, in another library.

A family is described by one table of `TensorName` rows (for T5: `t5_names`). A row is one parameter
of ours, which stacks its layers along a first axis, and one tensor of theirs per layer. Axes are
named in the order of our parameter; a `transposed` tensor has its two axes the other way round
([in, out] here, [out, in] in PyTorch). The axis `vocab` is padded here and trimmed there. A tensor
of theirs that joins several parameters of ours, as CodeGen's qkv_proj does, is named by one row for
each of them, which says which rows of the tensor are its own.
"""

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
from flax import traverse_util

from codet5p_jax.interop.tensors import LazyTensor

Sizes = Mapping[str, int]  # of the axes; "vocab" is the trimmed, "padded_vocab" the padded size

SHOWN_PROBLEMS = 10
_CHECKED_BYTES = 2**20  # at a time, so that what is compared stays in the processor's cache
_BFLOAT16_EXPONENT = np.uint16(0x7F80)
_BLOCK = 64  # rows that are transposed at a time: all at once, as numpy does, is four times slower


def float32(stored: np.dtype) -> np.dtype:
    """Returns the dtype of a parameter whose tensors are `stored` so: float32, always."""
    return np.dtype(np.float32)


def float32_or_bfloat16(stored: np.dtype) -> np.dtype:
    """Returns the same: bfloat16, in which frozen parameters are kept, stays as it is."""
    return stored if stored == ml_dtypes.bfloat16 else np.dtype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorName:
    """One row of a table of names.

    Attributes:
        ours: Path of our parameter, joined by "/".
        theirs: Name of their tensor; ``{layer}`` stands for the index of the layer.
        axes: Names of our axes; a first axis that ends in "layers" is theirs one by one.
        transposed: Whether their tensor has the last two axes exchanged.
        first_layer: Index of theirs that our first layer has.
        rows: Which rows of their tensor are this parameter's outputs, in our order; other
            parameters have the rest. None: all, in their order.
    """

    ours: str
    theirs: str
    axes: tuple[str, ...]
    transposed: bool = False
    first_layer: int = 0
    rows: np.ndarray | None = dataclasses.field(default=None, compare=False)

    @property
    def stacked(self) -> bool:
        """Whether our parameter holds one tensor of theirs per layer."""
        return self.axes[0].endswith("layers")

    def our_shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Shape of our parameter, vocabulary padded."""
        return tuple(sizes["padded_vocab" if axis == "vocab" else axis] for axis in self.axes)

    def their_shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Shape of each tensor of theirs, or of the rows of it; vocabulary trimmed."""
        shape = tuple(sizes[axis] for axis in self.axes[self.stacked :])
        return shape[::-1] if self.transposed else shape

    def trimmed(self, sizes: Sizes) -> tuple[slice, ...]:
        """Slices of one layer of our parameter that leave out the padding of the vocabulary."""
        return tuple(slice(sizes[axis]) for axis in self.axes[self.stacked :])

    def their_names(self, sizes: Sizes) -> list[str]:
        """Names of their tensors, in the order of our layers."""
        layers = range(sizes[self.axes[0]] if self.stacked else 1)
        return [self.theirs.format(layer=self.first_layer + layer) for layer in layers]

    def copy_from_theirs(self, tensor: np.ndarray, parameter: np.ndarray) -> None:
        """Writes a tensor of theirs, or the rows of it, into one layer of our parameter."""
        tensor = tensor if self.rows is None else tensor[self.rows]
        if self.transposed:
            _copy_transposed(tensor, parameter)
        else:
            parameter[...] = tensor

    def to_theirs(self, parameter: np.ndarray) -> np.ndarray:
        """Returns one layer of our parameter as a tensor of theirs, or the rows of it."""
        if not self.transposed:
            return parameter
        tensor = np.empty(parameter.shape[::-1], parameter.dtype)
        _copy_transposed(parameter, tensor)
        return tensor


def _copy_transposed(matrix: np.ndarray, target: np.ndarray) -> None:
    for row in range(0, len(matrix), _BLOCK):
        target[:, row : row + _BLOCK] = matrix[row : row + _BLOCK].T


@dataclasses.dataclass(frozen=True, kw_only=True)
class NameTable:
    """The names of a family.

    Attributes:
        names: One row per parameter that the format holds.
        aliases: Their name -> further names under which copies of the tensor are stored, such as
            tied embeddings. Read when the tensor itself is absent, else checked to be equal.
        ignored: Patterns, as of files, of names of theirs that carry nothing.
    """

    names: tuple[TensorName, ...]
    aliases: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    ignored: frozenset[str] = frozenset()


def left_out(params: Mapping[str, Any], table: NameTable) -> tuple[str, ...]:
    """Returns the paths of the parameters that the format of `table` has no place for."""
    held = {row.ours for row in table.names}
    return tuple(sorted(set(traverse_util.flatten_dict(params, sep="/")) - held))


def to_tensors(params: Mapping[str, Any], table: NameTable, *, sizes: Sizes) -> list[LazyTensor]:
    """Returns the tensors of their format, each made from `params` only when it is read.

    Args:
        params: Nested dict of arrays, or of anything with `shape`, `dtype` and indexing.
        table: Names of the family.
        sizes: Size of every axis named in the table.

    Raises:
        ValueError: A parameter is missing or mis-shaped; when read, one that is not finite.
    """
    ours = traverse_util.flatten_dict(params, sep="/")
    problems = [
        problem
        for row in table.names
        if (problem := _problem(row.ours, ours.get(row.ours), row.our_shape(sizes)))
    ]
    _raise_if_any(problems, "The parameters do not fit the model's config")
    return [tensor for rows in _joined(table) for tensor in _split(rows, ours, sizes)]


def _joined(table: NameTable) -> list[tuple[TensorName, ...]]:
    """Returns the rows of the table, those together that share a tensor."""
    joined: dict[tuple[str, int], list[TensorName]] = {}
    for row in table.names:
        joined.setdefault((row.theirs, row.first_layer), []).append(row)
    return [tuple(rows) for rows in joined.values()]


def _joined_shape(rows: Sequence[TensorName], sizes: Sizes) -> tuple[int, ...]:
    shapes = [row.their_shape(sizes) for row in rows]
    return sum(shape[0] for shape in shapes), *shapes[0][1:]


def _split(
    rows: Sequence[TensorName], ours: Mapping[str, Any], sizes: Sizes
) -> Iterator[LazyTensor]:
    parameters = [ours[row.ours] for row in rows]
    dtype = np.result_type(*(parameter.dtype for parameter in parameters))
    for layer, name in enumerate(rows[0].their_names(sizes)):
        yield LazyTensor(
            name=name,
            shape=_joined_shape(rows, sizes),
            dtype=dtype,
            read=partial(
                _to_theirs, rows, parameters, layer=layer, name=name, dtype=dtype, sizes=sizes
            ),
        )


def _to_theirs(
    rows: Sequence[TensorName],
    parameters: Sequence[Any],
    *,
    layer: int,
    name: str,
    dtype: np.dtype,
    sizes: Sizes,
) -> np.ndarray:
    tensor = None
    for row, parameter in zip(rows, parameters, strict=True):
        part = np.asarray(parameter[layer] if row.stacked else parameter)[row.trimmed(sizes)]
        if problem := _not_finite(part, name=name):
            raise NotFiniteError([problem])
        part = row.to_theirs(part)
        if row.rows is None:
            return part
        if tensor is None:
            tensor = np.empty(_joined_shape(rows, sizes), dtype)
        tensor[row.rows] = part
    assert tensor is not None  # a table has no tensor without rows
    return tensor


class NotFiniteError(ValueError):
    """Tensors hold NaN or infinity.

    Attributes:
        problems: What is wrong, one line per tensor.
    """

    def __init__(self, problems: Sequence[str]):
        """Lists the first ten."""
        self.problems = tuple(problems)
        super().__init__(
            f"Tensors hold NaN or infinite numbers:{_first(problems)}\nThe training diverged or "
            "the file is damaged; use an earlier checkpoint or another copy."
        )


def listing_all(error: NotFiniteError, tensors: Iterable[LazyTensor]) -> NotFiniteError:
    """Returns the error that lists all of `tensors` that hold NaN or infinity.

    Reads them one at a time, since whoever writes them stops at the first.

    Args:
        error: Of that first one.
        tensors: All that were to be written.
    """
    problems: list[str] = []
    for tensor in tensors:
        try:
            tensor.read()
        except NotFiniteError as found:
            problems += found.problems
    return NotFiniteError(problems or error.problems)


def from_tensors(
    tensors: Iterable[LazyTensor],
    table: NameTable,
    *,
    sizes: Sizes,
    dtype: Callable[[np.dtype], np.dtype] = float32,
) -> dict[str, Any]:
    """Returns our parameters, a nested dict of arrays, from the tensors of their format.

    Padding rows of the vocabulary are zero. Beside the result, one tensor is in memory at a time.

    Args:
        tensors: What the folder holds.
        table: Names of the family.
        sizes: Size of every axis named in the table.
        dtype: Dtype of a parameter's tensors -> the parameter's.

    Raises:
        ValueError: Tensors are missing, unexpected, mis-shaped or not finite (the first ten are
            listed), or differ from the tensor that they should be a copy of.
    """
    theirs = _without_aliases({tensor.name: tensor for tensor in tensors}, table)
    expected = {
        name: _joined_shape(rows, sizes)
        for rows in _joined(table)
        for name in rows[0].their_names(sizes)
    }
    problems = [
        problem
        for name, shape in expected.items()
        if (problem := _problem(name, theirs.get(name), shape))
    ]
    unexpected = sorted(
        name
        for name in set(theirs) - set(expected)
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in table.ignored)
    )
    problems += [f"{name}: unexpected, of shape {list(theirs[name].shape)}" for name in unexpected]
    _raise_if_any(problems, "The tensors do not fit the config beside them")
    not_finite: list[str] = []
    flat = {
        row.ours: parameter
        for rows in _joined(table)
        for row, parameter in zip(rows, _join(rows, theirs, sizes, dtype, not_finite), strict=True)
    }
    if not_finite:
        raise NotFiniteError(not_finite)
    return traverse_util.unflatten_dict({row.ours: flat[row.ours] for row in table.names}, sep="/")


def _join(
    rows: Sequence[TensorName],
    theirs: Mapping[str, LazyTensor],
    sizes: Sizes,
    dtype: Callable[[np.dtype], np.dtype],
    not_finite: list[str],
) -> list[np.ndarray]:
    """Returns our parameters; what is wrong with their numbers is added to `not_finite`."""
    names = rows[0].their_names(sizes)
    made = dtype(np.result_type(*(theirs[name].dtype for name in names)))
    parameters = [np.zeros(row.our_shape(sizes), made) for row in rows]
    for layer, name in enumerate(names):
        with np.errstate(over="ignore"):  # a float64 beyond float32 is found below
            tensor = np.asarray(theirs[name].read(), made)
        if problem := _not_finite(tensor, name=name):
            not_finite.append(problem)
        for row, parameter in zip(rows, parameters, strict=True):
            trimmed = row.trimmed(sizes)
            ours = parameter[layer] if row.stacked else parameter
            row.copy_from_theirs(tensor, ours[trimmed])
    return parameters


def _without_aliases(theirs: dict[str, LazyTensor], table: NameTable) -> dict[str, LazyTensor]:
    resolved = dict(theirs)
    for name, aliases in table.aliases.items():
        copies = [resolved.pop(alias) for alias in aliases if alias in resolved]
        if name not in resolved and copies:
            resolved[name] = copies.pop(0)
        for copy in copies:
            _check_equal(resolved[name], copy)
    return resolved


def _check_equal(tensor: LazyTensor, copy: LazyTensor) -> None:
    if not np.array_equal(tensor.read(), copy.read()):
        raise ValueError(
            f"Tensor {copy.name} should be a copy of {tensor.name} (tied embeddings, by the "
            "config) but differs from it. If the model was trained untied, set "
            "tie_word_embeddings to false in config.json."
        )


def _problem(name: str, tensor: Any, shape: tuple[int, ...]) -> str | None:
    if tensor is None:
        return f"{name}: missing, expected of shape {list(shape)}"
    if tuple(tensor.shape) != shape:
        return f"{name}: shape {list(tensor.shape)}, expected {list(shape)}"
    if np.dtype(tensor.dtype).kind in "biu":
        return f"{name}: dtype {tensor.dtype}, expected a floating-point one"
    return None


def _raise_if_any(problems: Sequence[str], what: str) -> None:
    if problems:
        raise ValueError(
            f"{what}:{_first(problems)}\nCheck that weights and config come from the same model."
        )


def _first(problems: Sequence[str]) -> str:
    shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN_PROBLEMS])
    more = len(problems) - SHOWN_PROBLEMS
    return shown + (f"\n  and {more} more" if more > 0 else "")


def _not_finite(tensor: np.ndarray, *, name: str) -> str | None:
    rows = max(1, _CHECKED_BYTES * len(tensor) // max(tensor.nbytes, 1))
    wrong = sum(
        int(np.sum(_infinite(tensor[row : row + rows]))) for row in range(0, len(tensor), rows)
    )
    if not wrong:
        return None
    return f"{name}: {wrong:,} NaN or infinite of {tensor.size:,} numbers, expected none"


def _infinite(numbers: np.ndarray) -> np.ndarray:
    if numbers.dtype == ml_dtypes.bfloat16:  # by the exponent: isfinite is four times slower
        return (numbers.view(np.uint16) & _BFLOAT16_EXPONENT) == _BFLOAT16_EXPONENT
    return ~np.isfinite(numbers)
