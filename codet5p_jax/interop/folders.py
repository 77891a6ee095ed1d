"""Folders in Hugging Face format: whole or absent, their tensors in one file or in shards."""

import contextlib
import fnmatch
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codet5p_jax.interop.pytorch_files import read_pytorch
from codet5p_jax.interop.tensors import LazyTensor, read_safetensors, write_safetensors

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
PYTORCH_WEIGHTS = "pytorch_model.bin"
PYTORCH_INDEX = "pytorch_model.bin.index.json"
DEFAULT_SHARD_BYTES = 5_000_000_000  # as transformers 4 and the released 2B, 6B and 16B
_METADATA = {"format": "pt"}  # without it, transformers 4 refuses the file

# What an export consists of: a folder that holds anything else is not replaced.
_EXPORT_FILES = (
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
def replacing_folder(out_dir: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields an empty folder beside `out_dir` that takes its place once the block has succeeded.

    If the block fails, `out_dir` is as before and nothing is left behind.

    Raises:
        ValueError: `out_dir` exists and holds files that no export writes.
    """
    out_dir = pathlib.Path(out_dir)
    _check_replaceable(out_dir)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    partial.chmod(0o755)  # mkdtemp's folders are for their owner alone
    try:
        yield partial
        if out_dir.exists():
            shutil.rmtree(out_dir)
        partial.rename(out_dir)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _check_replaceable(out_dir: pathlib.Path) -> None:
    if not out_dir.exists():
        return
    if not out_dir.is_dir():
        raise ValueError(f"{out_dir} is a file; an export is a folder. Choose another --out.")
    names = sorted(path.name for path in out_dir.iterdir())
    foreign = [n for n in names if not any(fnmatch.fnmatch(n, p) for p in _EXPORT_FILES)]
    if foreign:
        raise ValueError(
            f"{out_dir} holds files that are no part of an export ({', '.join(foreign[:5])}); "
            "nothing was overwritten. Choose a new folder, or empty this one."
        )


def write_json(path: pathlib.Path, contents: Mapping[str, Any]) -> None:
    """Writes `contents` as indented JSON."""
    path.write_text(json.dumps(contents, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
        ValueError: A file is damaged.
    """
    folder = pathlib.Path(folder)
    if (folder / WEIGHTS).exists():
        return read_safetensors(folder / WEIGHTS)
    if (folder / WEIGHTS_INDEX).exists():
        return [t for path in _indexed(folder / WEIGHTS_INDEX) for t in read_safetensors(path)]
    if (folder / PYTORCH_WEIGHTS).exists():
        return read_pytorch(folder / PYTORCH_WEIGHTS)
    if (folder / PYTORCH_INDEX).exists():
        return [t for path in _indexed(folder / PYTORCH_INDEX) for t in read_pytorch(path)]
    names = (WEIGHTS, WEIGHTS_INDEX, PYTORCH_WEIGHTS, PYTORCH_INDEX)
    raise FileNotFoundError(f"{folder} holds no weights: none of {', '.join(names)} is there.")


def _indexed(index: pathlib.Path) -> list[pathlib.Path]:
    names = sorted(set(read_json(index).get("weight_map", {}).values()))
    missing = [name for name in names if not (index.parent / name).exists()]
    if missing or not names:
        raise FileNotFoundError(
            f"{index} names shards that are not there: {', '.join(missing) or 'none at all'}. "
            "Copy or download the whole folder."
        )
    return [index.parent / name for name in names]
