"""How the parameters of a family of models are called, and laid out, in another library.

A family is described by one table of `TensorName` rows (for T5: `t5_names`). A row is one parameter
of ours, which stacks its layers along a first axis, and one tensor of theirs per layer. Axes are
named in the order of our parameter; a `transposed` tensor has its two axes the other way round
([in, out] here, [out, in] in PyTorch). The axis `vocab` is padded here and trimmed there.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from flax import traverse_util

from codet5p_jax.interop.tensors import LazyTensor

Sizes = Mapping[str, int]  # of the axes; "vocab" is the trimmed, "padded_vocab" the padded size

SHOWN_PROBLEMS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorName:
    """One row of a table of names.

    Attributes:
        ours: Path of our parameter, joined by "/".
        theirs: Name of their tensor; ``{layer}`` stands for the index of the layer.
        axes: Names of our axes; a first axis that ends in "layers" is theirs one by one.
        transposed: Whether their tensor has the last two axes exchanged.
    """

    ours: str
    theirs: str
    axes: tuple[str, ...]
    transposed: bool = False

    @property
    def stacked(self) -> bool:
        """Whether our parameter holds one tensor of theirs per layer."""
        return self.axes[0].endswith("layers")

    def our_shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Shape of our parameter, vocabulary padded."""
        return tuple(sizes["padded_vocab" if axis == "vocab" else axis] for axis in self.axes)

    def their_shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Shape of each tensor of theirs, vocabulary trimmed."""
        shape = tuple(sizes[axis] for axis in self.axes[self.stacked :])
        return shape[::-1] if self.transposed else shape

    def trimmed(self, sizes: Sizes) -> tuple[slice, ...]:
        """Slices of one layer of our parameter that leave out the padding of the vocabulary."""
        return tuple(slice(sizes[axis]) for axis in self.axes[self.stacked :])

    def their_names(self, sizes: Sizes) -> list[str]:
        """Names of their tensors, in the order of our layers."""
        layers = range(sizes[self.axes[0]] if self.stacked else 1)
        return [self.theirs.format(layer=layer) for layer in layers]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NameTable:
    """The names of a family.

    Attributes:
        names: One row per parameter that the format holds.
        aliases: Their name -> further names under which copies of the tensor are stored, such as
            tied embeddings. Read when the tensor itself is absent, else checked to be equal.
        ignored: Names of theirs that carry nothing.
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
    return [tensor for row in table.names for tensor in _split(row, ours[row.ours], sizes)]


def _split(row: TensorName, parameter: Any, sizes: Sizes) -> Iterator[LazyTensor]:
    for layer, name in enumerate(row.their_names(sizes)):
        yield LazyTensor(
            name=name,
            shape=row.their_shape(sizes),
            dtype=np.dtype(parameter.dtype),
            read=partial(_to_theirs, row, parameter, layer=layer, name=name, sizes=sizes),
        )


def _to_theirs(
    row: TensorName, parameter: Any, *, layer: int, name: str, sizes: Sizes
) -> np.ndarray:
    tensor = np.asarray(parameter[layer] if row.stacked else parameter)
    tensor = tensor[row.trimmed(sizes)]
    check_finite(tensor, name=name)
    return tensor.T if row.transposed else tensor


def from_tensors(
    tensors: Iterable[LazyTensor], table: NameTable, *, sizes: Sizes, dtype: Any = np.float32
) -> dict[str, Any]:
    """Returns our parameters, a nested dict of arrays, from the tensors of their format.

    Padding rows of the vocabulary are zero. Beside the result, one tensor is in memory at a time.

    Raises:
        ValueError: Tensors are missing, unexpected or mis-shaped (the first ten are listed), not
            finite, or differ from the tensor that they should be a copy of.
    """
    theirs = _without_aliases({tensor.name: tensor for tensor in tensors}, table)
    expected = {
        name: row.their_shape(sizes) for row in table.names for name in row.their_names(sizes)
    }
    problems = [
        problem
        for name, shape in expected.items()
        if (problem := _problem(name, theirs.get(name), shape))
    ]
    unexpected = sorted(set(theirs) - set(expected) - table.ignored)
    problems += [f"{name}: unexpected, of shape {list(theirs[name].shape)}" for name in unexpected]
    _raise_if_any(problems, "The tensors do not fit the config beside them")
    flat = {row.ours: _join(row, theirs, sizes, dtype) for row in table.names}
    return traverse_util.unflatten_dict(flat, sep="/")


def _join(
    row: TensorName, theirs: Mapping[str, LazyTensor], sizes: Sizes, dtype: Any
) -> np.ndarray:
    parameter = np.zeros(row.our_shape(sizes), dtype)
    trimmed = row.trimmed(sizes)
    for layer, name in enumerate(row.their_names(sizes)):
        tensor = theirs[name].read()
        check_finite(tensor, name=name)
        where: tuple[int | slice, ...] = (layer, *trimmed) if row.stacked else trimmed
        parameter[where] = tensor.T if row.transposed else tensor
    return parameter


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
    return None


def _raise_if_any(problems: list[str], what: str) -> None:
    if not problems:
        return
    shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN_PROBLEMS])
    more = len(problems) - SHOWN_PROBLEMS
    raise ValueError(
        f"{what}:{shown}"
        + (f"\n  and {more} more" if more > 0 else "")
        + "\nCheck that weights and config come from the same model."
    )


def check_finite(tensor: np.ndarray, *, name: str) -> None:
    """Raises ValueError if `tensor`, called `name`, holds NaN or infinity."""
    finite = np.isfinite(tensor)
    if not finite.all():
        raise ValueError(
            f"Tensor {name} holds {int(np.sum(~finite)):,} NaN or infinite numbers of "
            f"{tensor.size:,}. The training diverged or the file is damaged; "
            "use an earlier checkpoint or another copy."
        )
