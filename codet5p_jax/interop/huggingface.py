"""Exports to, and imports from, folders in Hugging Face format. Needs neither torch nor TensorFlow.

What distinguishes the classes of models is in `FORMATS`, one record each (`formats.Format`).
"""

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codet5p_jax.interop.codegen_format import CODEGEN
from codet5p_jax.interop.codet5p_format import CODET5P
from codet5p_jax.interop.folders import (
    DEFAULT_SHARD_BYTES,
    read_json,
    read_tensors,
    replacing_folder,
    write_json,
    write_tensors,
)
from codet5p_jax.interop.formats import Config, Contents, Format, detected
from codet5p_jax.interop.model_card import Provenance, model_card
from codet5p_jax.interop.model_tokenizer import models_tokenizer
from codet5p_jax.interop.names import (
    NotFiniteError,
    from_tensors,
    left_out,
    listing_all,
    to_tensors,
)
from codet5p_jax.interop.t5_formats import BIMODAL, EMBEDDING, T5
from codet5p_jax.interop.tensors import LazyTensor
from codet5p_jax.tokenizer import Tokenizer

FORMATS: Mapping[str, Format] = {
    record.name: record for record in (T5, EMBEDDING, BIMODAL, CODET5P, CODEGEN)
}
_HALF = " A CodeGen or Llama alone is half of a model: make one of it with `codet5p init`."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """What an export wrote.

    Attributes:
        folder: Where it lies.
        format: Name of its format.
        tensors: Number of tensors.
        parameters: Numbers in them.
        num_bytes: Bytes of the tensors.
        left_out: Paths of our parameters that the format has no place for.
    """

    folder: pathlib.Path
    format: str
    tensors: int
    parameters: int
    num_bytes: int
    left_out: tuple[str, ...]


def export_model(
    params: Mapping[str, Any],
    config: Config,
    *,
    tokenizer: Tokenizer,
    out_dir: str | os.PathLike,
    format: str | None = None,
    provenance: Provenance | None = None,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> Export:
    """Writes a folder that transformers loads with AutoModel and AutoTokenizer.

    Tensors keep their dtype and are written one at a time. Padding rows of the vocabulary are
    trimmed. Parameters that the format has no place for, such as the heads in T5, are left out,
    and named in the result and in the model card.

    Args:
        params: Our parameters, a nested dict of arrays or of anything that indexes like one.
        config: Config of the model.
        tokenizer: Its tokenizer; gains the task tokens if the model's vocabulary has them.
        out_dir: Folder to write. An earlier export there is replaced once this one is whole.
        format: One of `FORMATS`. None: `default_format`.
        provenance: How the model was trained, for the model card.
        max_shard_bytes: Larger models are split into files of at most this size.

    Raises:
        ValueError: There is no such format or it cannot hold the model; parameters, config and
            tokenizer do not fit together; a parameter is not finite; or `out_dir` holds other
            things than an export.
    """
    record = format_called(format or default_format(config))
    hf_config = record.config_json(config)
    tokenizer = models_tokenizer(tokenizer, config)
    table = record.names(config)
    tensors = to_tensors(params, table, sizes=record.sizes(config))
    missing = left_out(params, table)
    hf_config["torch_dtype"] = _stored_dtype(tensors)
    with replacing_folder(out_dir) as folder:
        try:
            write_tensors(folder, tensors, max_shard_bytes=max_shard_bytes)
        except NotFiniteError as error:
            raise listing_all(error, tensors) from error
        write_json(folder / "config.json", hf_config)
        if record.generation_config is not None:
            write_json(folder / "generation_config.json", record.generation_config(config))
        for file in record.model_files:
            shutil.copyfile(file, folder / file.name)
        tokenizer.save(folder)
        card = model_card(
            config, format=record, provenance=provenance or Provenance(), left_out=missing
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
    return Export(
        folder=pathlib.Path(out_dir),
        format=record.name,
        tensors=len(tensors),
        parameters=sum(t.num_bytes // t.dtype.itemsize for t in tensors),
        num_bytes=sum(t.num_bytes for t in tensors),
        left_out=missing,
    )


def default_format(config: Config) -> str:
    """Returns the name of the first format that holds models of such a config."""
    return next(name for name, record in FORMATS.items() if isinstance(config, record.holds))


def format_called(name: str) -> Format:
    """Returns the format called `name`.

    Raises:
        ValueError: There is none.
    """
    if name not in FORMATS:
        raise ValueError(f"There is no format {name!r}; it is one of {', '.join(FORMATS)}.")
    return FORMATS[name]


def _stored_dtype(tensors: Sequence[LazyTensor]) -> str:
    return str(np.result_type(*{tensor.dtype for tensor in tensors}))


def import_model(folder: str | os.PathLike) -> tuple[dict[str, Any], Config]:
    """Returns the parameters (nested dict of arrays) and the config of a folder.

    Its config.json says of which format it is. Parameters are float32; in the format codet5p,
    whose decoder may be frozen in bfloat16, what is bfloat16 stays so. Padding rows of the
    vocabulary are zero. Undoes `export_model` bit for bit. What the format has no place for is not
    there, such as projection and matching head of a T5: a model that needs them initializes them.

    Raises:
        FileNotFoundError: config.json or the weights are missing.
        ValueError: The config is of no format supported here, or the tensors do not fit it.
        ModuleNotFoundError: The weights are PyTorch files and torch is not installed.
    """
    folder = pathlib.Path(folder)
    contents = read_config(folder)
    record, config = described(folder, contents)
    tensors = record.completed(read_tensors(folder), config, contents)
    try:
        params = from_tensors(
            tensors, record.names(config), sizes=record.sizes(config), dtype=record.dtype
        )
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return params, config


def described(folder: str | os.PathLike, contents: Contents) -> tuple[Format, Config]:
    """Returns the format of a folder, and the config of its model.

    Args:
        folder: The folder.
        contents: Its config.json, of `read_config`.

    Raises:
        ValueError: It is of no format supported here, or holds half of a model.
    """
    source = str(pathlib.Path(folder) / "config.json")
    whole = [record for record in FORMATS.values() if record.is_whole]
    record = detected(contents, whole, source=source, way_out=_HALF)
    return record, record.from_huggingface(contents, source)


def format_of(folder: str | os.PathLike, contents: Contents) -> Format:
    """Returns the format of a folder, which may hold half of a model.

    Raises:
        ValueError: It is of no format supported here.
    """
    source = str(pathlib.Path(folder) / "config.json")
    return detected(contents, FORMATS.values(), source=source)


def read_config(folder: str | os.PathLike) -> dict[str, Any]:
    """Returns the contents of config.json in `folder`.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no JSON object.
    """
    folder = pathlib.Path(folder)
    path = folder / "config.json"
    expected = "expected a folder in Hugging Face format, with config.json, weights and tokenizer"
    if not folder.exists():
        raise FileNotFoundError(
            f"The folder {folder} does not exist; {expected}. A model on a hub is downloaded "
            "first: `hf download NAME --local-dir DIR`."
        )
    if not path.exists() and any(folder.glob("checkpoint_*")):
        raise FileNotFoundError(
            f"{folder} is a MODEL_DIR; {expected}. Write one of it with "
            f"`codet5p export --model_dir={folder} --out=DIR`."
        )
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {expected}.")
    return read_json(path)
