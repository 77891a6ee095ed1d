"""Exports to, and imports from, folders in Hugging Face format. Needs neither torch nor TensorFlow.

A format is a table of names, a mapping of configs and the files beside the weights. Here: `t5`,
transformers' T5ForConditionalGeneration, as the released codet5p-220m and codet5p-770m.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codet5p_jax.interop import t5_config
from codet5p_jax.interop.folders import (
    DEFAULT_SHARD_BYTES,
    read_json,
    read_tensors,
    replacing_folder,
    write_json,
    write_tensors,
)
from codet5p_jax.interop.model_card import Provenance, model_card
from codet5p_jax.interop.names import from_tensors, left_out, to_tensors
from codet5p_jax.interop.t5_names import t5_names, t5_sizes
from codet5p_jax.interop.tensors import LazyTensor
from codet5p_jax.models.config import T5Config
from codet5p_jax.tokenizer import CodeTokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """What an export wrote.

    Attributes:
        folder: Where it lies.
        tensors: Number of tensors.
        parameters: Numbers in them.
        num_bytes: Bytes of the tensors.
        left_out: Paths of our parameters that the format has no place for.
    """

    folder: pathlib.Path
    tensors: int
    parameters: int
    num_bytes: int
    left_out: tuple[str, ...]


def export_t5(
    params: Mapping[str, Any],
    config: T5Config,
    *,
    tokenizer: CodeTokenizer,
    out_dir: str | os.PathLike,
    provenance: Provenance | None = None,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> Export:
    """Writes a folder that transformers loads with AutoModelForSeq2SeqLM and AutoTokenizer.

    Tensors keep their dtype and are written one at a time. Padding rows of the vocabulary are
    trimmed. The projection and the matching head have no place in T5ForConditionalGeneration:
    they are left out, and named in the result and in the model card.

    Args:
        params: Our parameters, a nested dict of arrays or of anything that indexes like one.
        config: Config of the model.
        tokenizer: Its tokenizer; gains the task tokens if the model's vocabulary has them.
        out_dir: Folder to write. An earlier export there is replaced once this one is whole.
        provenance: How the model was trained, for the model card.
        max_shard_bytes: Larger models are split into files of at most this size.

    Raises:
        ValueError: Parameters, config and tokenizer do not fit together, a parameter is not
            finite, or `out_dir` holds other things than an export.
    """
    hf_config = t5_config.to_huggingface(config)
    tokenizer = fitting_tokenizer(tokenizer, config.vocab_size)
    table = t5_names(config)
    tensors = to_tensors(params, table, sizes=t5_sizes(config))
    missing = left_out(params, table)
    hf_config["torch_dtype"] = _stored_dtype(tensors)
    with replacing_folder(out_dir) as folder:
        write_tensors(folder, tensors, max_shard_bytes=max_shard_bytes)
        write_json(folder / "config.json", hf_config)
        write_json(folder / "generation_config.json", t5_config.generation_config(config))
        tokenizer.save(folder)
        card = model_card(config, provenance=provenance or Provenance(), left_out=missing)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return Export(
        folder=pathlib.Path(out_dir),
        tensors=len(tensors),
        parameters=sum(t.num_bytes // t.dtype.itemsize for t in tensors),
        num_bytes=sum(t.num_bytes for t in tensors),
        left_out=missing,
    )


def _stored_dtype(tensors: Sequence[LazyTensor]) -> str:
    return str(np.result_type(*{tensor.dtype for tensor in tensors}))


def import_t5(folder: str | os.PathLike) -> tuple[dict[str, Any], T5Config]:
    """Returns the parameters (nested dict of float32 arrays) and the config of a T5 folder.

    Padding rows of the vocabulary are zero. Undoes `export_t5` bit for bit. There is no
    projection and no matching head in such a folder: a model that needs them initializes them.

    Raises:
        FileNotFoundError: config.json or the weights are missing.
        ValueError: The config is no T5 supported here, or the tensors do not fit it.
        ModuleNotFoundError: The weights are PyTorch files and torch is not installed.
    """
    folder = pathlib.Path(folder)
    contents = read_config(folder)
    config = t5_config.from_huggingface(contents, source=str(folder / "config.json"))
    tensors = read_tensors(folder)
    if not config.tie_embeddings and contents.get("tie_word_embeddings"):
        tensors = _with_own_head(tensors)
    try:
        params = from_tensors(tensors, t5_names(config), sizes=t5_sizes(config))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return params, config


def _with_own_head(tensors: Sequence[LazyTensor]) -> list[LazyTensor]:
    """Transformers 5 ties every T5, and stores no head if the logits are unscaled, either."""
    named = {tensor.name: tensor for tensor in tensors}
    if "shared.weight" in named and "lm_head.weight" not in named:
        head = dataclasses.replace(named["shared.weight"], name="lm_head.weight")
        return [*tensors, head]
    return list(tensors)


def read_config(folder: str | os.PathLike) -> dict[str, Any]:
    """Returns the contents of config.json in `folder`.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no JSON object.
    """
    path = pathlib.Path(folder) / "config.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; expected a folder in Hugging Face format, with config.json, "
            "weights and tokenizer files."
        )
    return read_json(path)


def fitting_tokenizer(tokenizer: CodeTokenizer, vocab_size: int) -> CodeTokenizer:
    """Returns `tokenizer`, with task tokens if the vocabulary has the rows for them.

    Raises:
        ValueError: Neither has `vocab_size` ids.
    """
    for candidate in (tokenizer, tokenizer.with_task_tokens()):
        if candidate.vocab_size == vocab_size:
            return candidate
    raise ValueError(
        f"The tokenizer has {tokenizer.vocab_size:,} ids "
        f"({tokenizer.with_task_tokens().vocab_size:,} with task tokens) but the model's "
        f"vocabulary has {vocab_size:,} rows. Use the tokenizer that the model was trained with."
    )
