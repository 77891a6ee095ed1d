"""Language models in Hugging Face folders, each read as one half of a CodeT5+.

What distinguishes their classes is in `FAMILIES`, one record each: another decoder-only language
model is a module of `models`, a table of names, and a record here.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from codet5p_jax.interop import t5_config
from codet5p_jax.interop.axis_sizes import decoder_only_sizes
from codet5p_jax.interop.codegen_config import codegen_from_huggingface, llama_from_huggingface
from codet5p_jax.interop.codegen_names import codegen_names
from codet5p_jax.interop.config_values import naming
from codet5p_jax.interop.folders import read_tensors
from codet5p_jax.interop.formats import Contents, ModelClass, detected
from codet5p_jax.interop.huggingface import read_config
from codet5p_jax.interop.llama_names import llama_names
from codet5p_jax.interop.names import NameTable, Sizes, TensorName, from_tensors
from codet5p_jax.interop.t5_formats import T5
from codet5p_jax.interop.t5_names import t5_names, t5_sizes
from codet5p_jax.interop.tensors import LazyTensor
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.encoder_decoder import HalfConfig
from codet5p_jax.models.vocabulary import padded_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family(ModelClass):
    """A class of models that a half can be.

    Attributes:
        config: Contents of config.json, what errors call it, and the side -> our config of that
            half. Raises ValueError for what is not supported here.
        names: Side, config and number of layers that gain cross-attention -> table of names.
        sizes: The same -> sizes of the axes in that table, the vocabulary's not needed.
    """

    config: Callable[[Contents, str, str], HalfConfig]
    names: Callable[[str, Any, int], NameTable]
    sizes: Callable[[str, Any, int], Sizes]


def _t5_half(contents: Contents, source: str, side: str) -> T5Config:
    config = t5_config.from_huggingface(contents, source)
    if dataclasses.replace(config, activation=None) != config:
        raise ValueError(
            f"{source} has feed_forward_proj={contents.get('feed_forward_proj')!r}; a T5 that is "
            "half of a CodeT5+ has relu or gated-gelu; no gin file can name another activation."
        )
    with naming(source):
        if side == "encoder":
            return dataclasses.replace(config, num_decoder_layers=0, tie_embeddings=True)
        return dataclasses.replace(config, num_encoder_layers=0)


def _t5_names(side: str, config: T5Config, cross_attention_layers: int) -> NameTable:
    """Names of one side of a T5, which gets an embedding, and a head, of its own."""
    whole = t5_names(config)
    own = ("token_embedder/", "lm_head/")
    rows = tuple(
        dataclasses.replace(row, ours=f"{side}/{row.ours}") if row.ours.startswith(own) else row
        for row in whole.names
        if row.ours.startswith((*own, f"{side}/"))
    )
    other = "decoder" if side == "encoder" else "encoder"
    ignored = whole.ignored | {f"{other}.*", "proj.*", "itm_head.*"}
    if side == "encoder":  # whether or not the model is tied
        return NameTable(
            names=rows,
            aliases={"shared.weight": ("encoder.embed_tokens.weight",)},
            ignored=ignored | {"lm_head.weight"},
        )
    copies = tuple(name for name in whole.aliases["shared.weight"] if not name.startswith(other))
    return NameTable(names=rows, aliases={"shared.weight": copies}, ignored=ignored)


FAMILIES = (
    Family(
        architecture="CodeGenForCausalLM",
        model_type="codegen",
        config=lambda contents, source, side: codegen_from_huggingface(contents, source),
        names=codegen_names,
        sizes=decoder_only_sizes,
    ),
    Family(
        architecture="LlamaForCausalLM",
        model_type="llama",
        config=lambda contents, source, side: llama_from_huggingface(contents, source),
        names=llama_names,
        sizes=decoder_only_sizes,
    ),
    Family(
        architecture="T5ForConditionalGeneration",
        model_type="t5",
        config=_t5_half,
        names=_t5_names,
        sizes=lambda side, config, cross_attention_layers: t5_sizes(config),
        completed=T5.completed,
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Half:
    """A folder that is to become one side; its numbers are read by `params`.

    Attributes:
        folder: Where it lies.
        side: "encoder" or "decoder".
        family: Of which class it is.
        config: Its shape, with as many rows of the vocabulary as are stored.
        tensors: What is stored.
    """

    folder: pathlib.Path
    side: str
    family: Family
    config: HalfConfig
    tensors: Sequence[LazyTensor]

    @property
    def layout(self) -> str:
        """First 16 hex digits of the SHA-256 of names, shapes and dtypes of the tensors."""
        listed = sorted((t.name, list(t.shape), str(t.dtype)) for t in self.tensors)
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]

    def params(
        self,
        *,
        dtype: Any = np.float32,
        vocab_size: int | None = None,
        cross_attention_layers: int = 0,
    ) -> dict[str, Any]:
        """Returns the parameters of this side, a nested dict of arrays.

        Args:
            dtype: Of the parameters.
            vocab_size: Rows of the vocabulary; those that are not stored become the mean of those
                that are, and so do columns and biases of the head. None: as many as are stored.
            cross_attention_layers: Layers at the top that lie apart, since they gain
                cross-attention; it is not among what is returned.

        Raises:
            ValueError: The tensors do not fit the config, or are not finite.
        """
        stored = self.config.vocab_size
        wanted = stored if vocab_size is None else vocab_size
        table = self.family.names(self.side, self.config, cross_attention_layers)
        sizes = {
            **self.family.sizes(self.side, self.config, cross_attention_layers),
            "vocab": stored,
            "padded_vocab": padded_rows(wanted),
        }
        try:
            params = from_tensors(self.tensors, table, sizes=sizes, dtype=lambda _: np.dtype(dtype))
        except ValueError as error:
            raise ValueError(f"{self.folder}: {error}") from error
        for row in table.names:
            if "vocab" in row.axes:
                _grow(params, row, stored, wanted)
        return params[self.side]


def _grow(params: Mapping[str, Any], row: TensorName, stored: int, wanted: int) -> None:
    """Writes the mean of the stored rows of the vocabulary into the further ones, in place."""
    if wanted == stored:
        return
    parameter: np.ndarray = traverse_util.flatten_dict(params, sep="/")[row.ours]
    rows = np.moveaxis(parameter, row.axes.index("vocab"), 0)
    rows[stored:wanted] = np.mean(rows[:stored], axis=0, dtype=np.float32)


def read_half(folder: str | os.PathLike, side: str) -> Half:
    """Returns a folder as the "encoder" or the "decoder" of a CodeT5+; no numbers are read.

    Raises:
        FileNotFoundError: config.json or the weights are missing.
        ValueError: The model is of no class supported here.
        ModuleNotFoundError: The weights are PyTorch files and torch is not installed.
    """
    folder = pathlib.Path(folder)
    contents = read_config(folder)
    source = str(folder / "config.json")
    known = "half of a CodeT5+ can be"
    family = detected(contents, FAMILIES, source=source, known=known)
    config = family.config(contents, source, side)
    tensors = family.completed(read_tensors(folder), config, contents)
    return Half(folder=folder, side=side, family=family, config=config, tensors=tensors)
