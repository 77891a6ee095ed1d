"""A format: how the models of one class are called, described and loaded in Hugging Face's world.

Each is one record, listed in `huggingface.FORMATS`. Whatever reads or writes a folder asks the
record; nothing else knows which formats there are.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from codet5p_jax.interop.names import NameTable, Sizes, float32
from codet5p_jax.interop.tensors import LazyTensor
from codet5p_jax.models.config import T5Config

MODEL_FILES = pathlib.Path(__file__).parent / "model_files"

Config = Any  # of a model of ours; each format knows of which class
Contents = Mapping[str, Any]  # of a config.json


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelClass:
    """A class of models, as config.json calls it.

    Attributes:
        architecture: Class of the model in config.json.
        model_type: The same, of its config.
        completed: Tensors of a folder, our config and config.json -> the tensors that the table of
            names has, where a version of transformers leaves some out.
    """

    architecture: str
    model_type: str
    completed: Callable[[Sequence[LazyTensor], Config, Contents], Sequence[LazyTensor]] = (
        lambda tensors, config, contents: tensors
    )

    def describes(self, contents: Contents) -> bool:
        """Whether a config.json is that of a model of this class."""
        architectures = contents.get("architectures") or [self.architecture]
        if contents.get("model_type") != self.model_type:
            return False
        return isinstance(architectures, Sequence) and self.architecture in architectures


AnyModelClass = TypeVar("AnyModelClass", bound=ModelClass)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format(ModelClass):
    """A class of models that is exported and imported.

    Attributes:
        name: What `codet5p export --format` calls it.
        description: What it holds, in a few words.
        auto_class: Class of transformers with which the model is loaded.
        config_class: Class of the config, where transformers lacks it: exports carry it and
            `architecture` in configuration_<model_type>.py and modeling_<model_type>.py.
        further_auto_classes: Others that load it, where exports carry the code.
        does: What the model is asked for: "generate", "embed", "match", or "continue", of a
            decoder's language model alone.
        is_whole: Whether it holds all of a model, so that it can be imported.
        holds: Class of our configs of such models.
        to_huggingface: Our config -> the rest of config.json. Raises ValueError if the format
            cannot hold such a model.
        from_huggingface: The contents of config.json, and what errors call it -> our config.
        names: Our config -> table of names.
        sizes: Our config -> sizes of the axes in that table.
        generation_config: Our config -> contents of generation_config.json; None: it has none.
        dtype: Dtype of a parameter's tensors -> dtype in which it is imported.
        summary: Our config -> rows of the model card's first table: what, and its value.
        loading: Section of the model card on how to load it.
        loading_tuned: The same of a model that was tuned on instructions; empty: no other.
    """

    name: str
    description: str
    auto_class: str
    config_class: str | None = None
    further_auto_classes: tuple[str, ...] = ()
    does: frozenset[str]
    is_whole: bool = True
    holds: type = T5Config
    to_huggingface: Callable[[Config], dict[str, Any]]
    from_huggingface: Callable[[Contents, str], Config]
    names: Callable[[Config], NameTable]
    sizes: Callable[[Config], Sizes]
    generation_config: Callable[[Config], dict[str, Any]] | None = None
    dtype: Callable[[np.dtype], np.dtype] = float32
    summary: Callable[[Config], dict[str, str]]
    loading: str
    loading_tuned: str = ""

    @property
    def model_files(self) -> tuple[pathlib.Path, ...]:
        """The code that exports carry, in this package."""
        if self.config_class is None:
            return ()
        kinds = ("configuration", "modeling")
        return tuple(MODEL_FILES / f"{kind}_{self.model_type}.py" for kind in kinds)

    def config_json(self, config: Config) -> dict[str, Any]:
        """Returns the contents of config.json, without the dtype of the weights.

        Raises:
            ValueError: The format cannot hold such a model.
        """
        if not isinstance(config, self.holds):
            raise ValueError(
                f"The format {self.name} holds {self.description}; it cannot hold a model that "
                f"{type(config).__name__} describes. Choose another --format, or leave it out."
            )
        described = self.to_huggingface(config)
        code = {}
        if self.config_class is not None:
            auto_classes = (self.auto_class, *self.further_auto_classes)
            code["auto_map"] = {
                "AutoConfig": f"configuration_{self.model_type}.{self.config_class}",
                **{
                    auto: f"modeling_{self.model_type}.{self.architecture}" for auto in auto_classes
                },
            }
        return {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            **code,
            **described,
        }


def detected(
    contents: Contents,
    classes: Iterable[AnyModelClass],
    *,
    source: str,
    known: str = "supported",
    way_out: str = "",
) -> AnyModelClass:
    """Returns the class of models that a config.json is of.

    Args:
        contents: The parsed file.
        classes: Those to choose from.
        source: What errors call the file.
        known: What they say before those that there are.
        way_out: What they say behind them.

    Raises:
        ValueError: It is of none of them.
    """
    classes = list(classes)
    for candidate in classes:
        if candidate.describes(contents):
            return candidate
    supported = ", ".join(f"model_type {c.model_type!r} ({c.architecture})" for c in classes)
    raise ValueError(
        f"{source} describes model_type {contents.get('model_type')!r}, architectures "
        f"{contents.get('architectures')}; {known}: {supported}.{way_out}"
    )
