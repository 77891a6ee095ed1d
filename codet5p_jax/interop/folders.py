"""Folders in Hugging Face format: whole or absent, their tensors in one file or in shards."""

import contextlib
import ctypes
import errno
import fcntl
import fnmatch
import glob
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from codet5p_jax.interop.pytorch_files import read_pytorch
from codet5p_jax.interop.tensors import LazyTensor, read_safetensors, write_safetensors

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
PYTORCH_WEIGHTS = "pytorch_model.bin"
PYTORCH_INDEX = "pytorch_model.bin.index.json"
DEFAULT_SHARD_BYTES = 5_000_000_000  # as transformers 4 and the released 2B, 6B and 16B
_METADATA = {"format": "pt"}  # without it, transformers 4 refuses the file

# Of renameat2 in Linux, which Python lacks.
_AT_CURRENT_FOLDER, _RENAME_EXCHANGE = -100, 2

# What an export consists of: a folder that holds anything else is not replaced.
EXPORT_FILES = (
    "README.md",
    "config.json",
    "configuration_*.py",
    "generation_config.json",
    "merges.txt",
    "model*.safetensors",
    "modeling_*.py",
    WEIGHTS_INDEX,
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "verification.json",
    "vocab.json",
)


@contextlib.contextmanager
def replacing_folder(
    out_dir: str | os.PathLike, *, replaceable: Sequence[str] = EXPORT_FILES
) -> Iterator[pathlib.Path]:
    """Yields an empty folder beside `out_dir` that takes its place once the block has succeeded.

    If the block fails, `out_dir` is as before and nothing is left behind. If the process is killed,
    `out_dir` is as before or whole, and the next call removes what was left beside it.

    Args:
        out_dir: The folder to write.
        replaceable: Patterns of the files that one there may hold, to be replaced.

    Raises:
        OSError: The disk is full, among others.
        ValueError: `out_dir` exists and holds other files.
    """
    out_dir = pathlib.Path(out_dir).absolute()
    _check_replaceable(out_dir, replaceable)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(out_dir)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=_partial_prefix(out_dir), dir=out_dir.parent))
    lock = _locked(partial)
    try:
        partial.chmod(0o755)  # mkdtemp's folders are for their owner alone
        yield partial
        _take_place(partial, out_dir)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(
            error.errno,
            f"{out_dir} was not written, and nothing is left of it: {error.strerror}. Make room, "
            "or choose another disk, and run again",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # by now the old folder, or nothing
        if lock is not None:
            os.close(lock)


def _check_replaceable(out_dir: pathlib.Path, patterns: Sequence[str]) -> None:
    if not out_dir.exists():
        return
    if not out_dir.is_dir():
        raise ValueError(f"{out_dir} is a file, expected a folder. Choose another --out.")
    names = sorted(path.name for path in out_dir.iterdir())
    foreign = [n for n in names if not any(fnmatch.fnmatch(n, p) for p in patterns)]
    if foreign:
        raise ValueError(
            f"{out_dir} holds other files than would be written there ({', '.join(foreign[:5])}); "
            "nothing was overwritten. Choose a new folder, or empty this one."
        )


def _partial_prefix(out_dir: pathlib.Path) -> str:
    return f".{out_dir.name}.partial-"


def _locked(folder: pathlib.Path) -> int | None:
    """Returns a handle that keeps `folder` locked until it is closed or its process ends.

    None if another process holds it, or the file system has no locks.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_abandoned(out_dir: pathlib.Path) -> None:
    """Removes what killed processes left: folders whose lock nobody holds."""
    for partial in out_dir.parent.glob(f"{glob.escape(_partial_prefix(out_dir))}*"):
        with contextlib.suppress(FileNotFoundError):  # another process removes it too
            lock = _locked(partial)
            if lock is not None:
                shutil.rmtree(partial, ignore_errors=True)
                os.close(lock)


def _take_place(partial: pathlib.Path, out_dir: pathlib.Path) -> None:
    """Gives `partial` the name `out_dir`; a folder of that name is called `partial` then."""
    if not out_dir.exists():
        partial.rename(out_dir)
    elif not _exchange(partial, out_dir):
        aside = pathlib.Path(tempfile.mkdtemp(prefix=_partial_prefix(out_dir), dir=out_dir.parent))
        out_dir.rename(aside)
        partial.rename(out_dir)
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Exchanges two names at once; returns False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here = ctypes.c_int(_AT_CURRENT_FOLDER)
    names = os.fsencode(first), os.fsencode(second)
    return rename(here, names[0], here, names[1], ctypes.c_uint(_RENAME_EXCHANGE)) == 0


def write_json(path: pathlib.Path, contents: Mapping[str, Any]) -> None:
    """Writes `contents` as indented JSON; an earlier file is replaced at once."""
    partial = path.with_name(f".{path.name}.partial")
    text = json.dumps(contents, indent=2, ensure_ascii=False) + "\n"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns the JSON object in `path`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no JSON object.
    """
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(contents, dict):
        raise ValueError(f"{path} holds a JSON {type(contents).__name__}, expected an object.")
    return contents


def write_tensors(
    folder: pathlib.Path,
    tensors: Sequence[LazyTensor],
    *,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> int:
    """Writes model.safetensors, or shards and their index where it would exceed `max_shard_bytes`.

    Returns:
        Bytes of the tensors.
    """
    shards = _shards(tensors, max_shard_bytes)
    total = sum(tensor.num_bytes for tensor in tensors)
    if len(shards) == 1:
        write_safetensors(folder / WEIGHTS, shards[0], metadata=_METADATA)
        return total
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        write_safetensors(folder / name, shard, metadata=_METADATA)
    weight_map = {
        tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard
    }
    write_json(
        folder / WEIGHTS_INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map}
    )
    return total


def _shards(tensors: Sequence[LazyTensor], max_bytes: int) -> list[list[LazyTensor]]:
    """Fills shards in order; a tensor larger than a shard has one of its own."""
    shards: list[list[LazyTensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + tensor.num_bytes > max_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.num_bytes
    return shards


def read_tensors(folder: str | os.PathLike) -> list[LazyTensor]:
    """Returns the tensors of a folder: safetensors, else PyTorch files; single or sharded.

    Raises:
        FileNotFoundError: The folder, its weights or one of its shards is missing.
        ValueError: A file is damaged, or two of them hold the same tensor.
    """
    folder = pathlib.Path(folder)
    for single, index, read in (
        (WEIGHTS, WEIGHTS_INDEX, read_safetensors),
        (PYTORCH_WEIGHTS, PYTORCH_INDEX, read_pytorch),
    ):
        if (folder / single).exists():
            return read(folder / single)
        if (folder / index).exists():
            return _read_shards(_indexed(folder / index), read)
    names = (WEIGHTS, WEIGHTS_INDEX, PYTORCH_WEIGHTS, PYTORCH_INDEX)
    raise FileNotFoundError(f"{folder} holds no weights: none of {', '.join(names)} is there.")


def _read_shards(
    paths: Sequence[pathlib.Path], read: Callable[[pathlib.Path], list[LazyTensor]]
) -> list[LazyTensor]:
    found: dict[str, tuple[pathlib.Path, LazyTensor]] = {}
    for path in paths:
        for tensor in read(path):
            if tensor.name in found:
                raise ValueError(
                    f"Tensor {tensor.name!r} is in {found[tensor.name][0]} and in {path}; "
                    "expected in one shard. Copy or download the whole folder."
                )
            found[tensor.name] = path, tensor
    return [tensor for _, tensor in found.values()]


def _indexed(index: pathlib.Path) -> list[pathlib.Path]:
    weight_map = read_json(index).get("weight_map", {})
    if not _names_files_beside(weight_map):
        raise ValueError(
            f"{index} has a weight_map that is no mapping of tensors to files beside it. "
            "Copy or download it again."
        )
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (index.parent / name).exists()]
    if missing or not names:
        raise FileNotFoundError(
            f"{index} names shards that are not there: {', '.join(missing) or 'none at all'}. "
            "Copy or download the whole folder."
        )
    return [index.parent / name for name in names]


def _names_files_beside(weight_map: Any) -> bool:
    return isinstance(weight_map, dict) and all(
        isinstance(name, str) and pathlib.PurePath(name).name == name
        for name in weight_map.values()
    )
