"""Named tensors that are read only when asked for, and the safetensors format for them.

The format: 8 bytes little-endian length of the header; the header, JSON
``{name: {"dtype", "shape", "data_offsets": [begin, end]}}``; then the tensors, C-contiguous and
without gaps. Written and read here tensor by tensor, so that a file larger than memory is no
obstacle, and with bfloat16, which safetensors' own numpy interface lacks.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

DTYPES: Mapping[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_LENGTH_BYTES = 8
_ALIGNMENT = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class LazyTensor:
    """A tensor whose name, shape and dtype are known before its numbers are in memory.

    Attributes:
        name: Name in the file.
        shape: Sizes of the axes.
        dtype: Numpy dtype; bfloat16 is that of ml_dtypes.
        read: Returns the numbers, an array of `shape` and `dtype`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @property
    def num_bytes(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(
    path: str | os.PathLike,
    tensors: Sequence[LazyTensor],
    *,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Writes `tensors` to one file, holding one of them in memory at a time.

    Args:
        path: File to write; an existing one is overwritten.
        tensors: What to write; names must differ.
        metadata: Strings for the header's ``__metadata__``; transformers wants {"format": "pt"}.

    Returns:
        Bytes written.

    Raises:
        ValueError: A name occurs twice, a dtype has no code in the format, or a tensor turns out
            to have another shape or dtype than it announced.
    """
    ordered = sorted(tensors, key=lambda tensor: -tensor.dtype.itemsize)  # keeps data aligned
    header = _header(ordered, metadata=metadata or {})
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(_LENGTH_BYTES, "little"))
        file.write(header)
        for tensor in ordered:
            file.write(_bytes(tensor))
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _header(tensors: Iterable[LazyTensor], *, metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for tensor in tensors:
        if tensor.name in entries:
            raise ValueError(f"Tensor {tensor.name!r} would be written twice; names must differ.")
        end = offset + tensor.num_bytes
        entries[tensor.name] = {
            "dtype": _dtype_code(tensor),
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % _ALIGNMENT)


def _dtype_code(tensor: LazyTensor) -> str:
    if tensor.dtype not in _CODES:
        raise ValueError(
            f"Tensor {tensor.name!r} has dtype {tensor.dtype}, which the safetensors format "
            f"does not hold. Supported: {', '.join(map(str, _CODES))}. Cast it first."
        )
    return _CODES[tensor.dtype]


def _bytes(tensor: LazyTensor) -> memoryview:
    array = np.asarray(tensor.read(), order="C")
    if (array.shape, array.dtype) != (tensor.shape, tensor.dtype):
        raise ValueError(
            f"Tensor {tensor.name!r} was announced as {tensor.dtype}{list(tensor.shape)} "
            f"but is {array.dtype}{list(array.shape)}."
        )
    return array.reshape(-1).view(np.uint8).data


def read_safetensors(path: str | os.PathLike) -> list[LazyTensor]:
    """Returns the tensors of a file; their numbers are read from the disk when asked for.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no safetensors file, or is shorter or longer than its header says.
    """
    path = pathlib.Path(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        begin = _LENGTH_BYTES + length
        if size < _LENGTH_BYTES or begin > size:
            raise ValueError(f"{path} is no whole safetensors file: its header is cut off.")
        entries = _parse_header(file.read(length), path=path)
    tensors = [_lazy(path, begin, name, entry) for name, entry in entries.items()]
    _check_offsets(entries, path=path, data_bytes=size - begin)
    return tensors


def _parse_header(text: bytes, *, path: pathlib.Path) -> dict[str, Any]:
    try:
        entries = json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested without end
        raise ValueError(
            f"{path} is no safetensors file: its header is not JSON ({error}). "
            "Copy or download it again."
        ) from error
    if not isinstance(entries, dict):
        raise ValueError(
            f"{path} is no safetensors file: its header is a JSON {type(entries).__name__}, "
            "expected an object."
        )
    entries.pop("__metadata__", None)
    return entries


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("a name occurs twice")
    return entries


def _check_offsets(entries: Mapping[str, Any], *, path: pathlib.Path, data_bytes: int) -> None:
    """Tensors lie one behind the other, from the first byte of the data to the last."""
    spans = sorted((*entry["data_offsets"], name) for name, entry in entries.items())
    expected = 0
    for begin, end, name in spans:
        if begin != expected:
            raise ValueError(
                f"{path} is damaged: tensor {name!r} begins at byte {begin:,} of the data, "
                f"expected {expected:,}, where the one before it ends. Copy or download it again."
            )
        expected = end
    if expected != data_bytes:
        raise ValueError(
            f"{path} is damaged or cut off: its header announces {expected:,} bytes of tensors, "
            f"the file holds {data_bytes:,}. Copy or download it again."
        )


def _lazy(path: pathlib.Path, begin: int, name: str, entry: Any) -> LazyTensor:
    if not _is_entry(entry):
        raise ValueError(
            f"{path} is damaged: its header describes tensor {name!r} as {str(entry)[:100]}, "
            "expected dtype, shape and two data_offsets. Copy or download it again."
        )
    if entry["dtype"] not in DTYPES:
        raise ValueError(
            f"Tensor {name!r} of {path} has dtype {entry['dtype']}; readable are "
            f"{', '.join(DTYPES)}."
        )
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    offset, end = entry["data_offsets"]
    if end - offset != math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"Tensor {name!r} of {path} takes {end - offset} bytes but its shape {list(shape)} in "
            f"{dtype} needs {math.prod(shape) * dtype.itemsize}."
        )
    read = partial(_read, path, offset=begin + offset, shape=shape, dtype=dtype)
    return LazyTensor(name=name, shape=shape, dtype=dtype, read=read)


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("dtype"), str)
        and _are_sizes(entry.get("shape"))
        and _are_sizes(entry.get("data_offsets"))
        and len(entry["data_offsets"]) == 2
    )


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _read(
    path: pathlib.Path, *, offset: int, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    numbers = np.fromfile(path, dtype=dtype, count=math.prod(shape), offset=offset)
    return numbers.reshape(shape)
