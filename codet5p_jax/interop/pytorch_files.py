"""Reads the tensors of pytorch_model.bin. Needs torch; unpickles weights only, never code."""

import os
import pathlib
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from codet5p_jax.interop.tensors import DTYPES, LazyTensor

_READABLE = {dtype.name for dtype in DTYPES.values()}


def read_pytorch(path: str | os.PathLike) -> list[LazyTensor]:
    """Returns the tensors of a state dict, mapped from the disk where the file allows it.

    Raises:
        ModuleNotFoundError: torch is not installed.
        ValueError: The file is damaged, or holds more than tensors.
    """
    path = pathlib.Path(path)
    state_dict = _load(path)
    if not isinstance(state_dict, Mapping):
        raise ValueError(
            f"{path} holds a {type(state_dict).__name__}, expected a state dict: names and tensors."
        )
    for name, tensor in state_dict.items():
        if not hasattr(tensor, "dtype") or _dtype_name(tensor) not in _READABLE:
            got = getattr(tensor, "dtype", type(tensor).__name__)
            raise ValueError(
                f"{path} holds {name!r} of type {got}; expected a tensor of "
                f"{', '.join(sorted(_READABLE))}."
            )
    return [_lazy(name, tensor) for name, tensor in state_dict.items()]


def _load(path: pathlib.Path) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Reading {path} needs torch: {sys.executable} -m pip install 'codet5p_jax[hf]'\n"
            "Folders with model.safetensors need nothing more."
        ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:  # whatever a damaged file raises
        raise ValueError(
            f"{path} cannot be read as weights alone: it is damaged, or holds Python objects, "
            "which could run code and are refused. Use a safetensors copy of the model."
        ) from error


def _is_zip(path: pathlib.Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK"  # files of torch < 1.6 are bare pickles


def _lazy(name: str, tensor: Any) -> LazyTensor:
    return LazyTensor(
        name=name,
        shape=tuple(tensor.shape),
        dtype=_numpy_dtype(tensor),
        read=partial(_numpy, tensor),
    )


def _dtype_name(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _numpy_dtype(tensor: Any) -> np.dtype:
    name = _dtype_name(tensor)
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def _numpy(tensor: Any) -> np.ndarray:
    dtype = _numpy_dtype(tensor)
    if dtype != ml_dtypes.bfloat16:
        return tensor.numpy()
    return tensor.float().numpy().astype(dtype)  # exact; torch has no numpy bridge for bfloat16
