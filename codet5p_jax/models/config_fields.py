"""Fields of a config as JSON values, and back: functions and dtypes by name."""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import jax.numpy as jnp

from codet5p_jax.models.function_names import function_from_name, function_name

# Fields that say how to compute, not what: models that differ in these alone share checkpoints.
EXECUTION_FIELDS = frozenset(
    {"scan_unroll", "remat_policy", "attention", "dtype", "dropout_rate", "embedding_stddev"}
)
FUNCTIONS = frozenset({"activation", "remat_policy", "attention"})

Config = TypeVar("Config")


def fields_to_json(config: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass of numbers, texts, functions and a dtype as JSON values.

    Raises:
        ValueError: A function has no name (a lambda, say).
    """
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    for name in FUNCTIONS & values.keys():
        if values[name] is not None:
            values[name] = function_name(values[name])
    return {**values, "dtype": jnp.dtype(config.dtype).name}


def fields_from_json(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """Returns the config that `fields_to_json` wrote.

    Raises:
        ValueError: A field is unknown, or a function cannot be found.
    """
    check_fields(cls, values)
    values = dict(values)
    for name in FUNCTIONS & values.keys():
        if isinstance(values[name], str):
            values[name] = function_from_name(values[name])
    if "dtype" in values:
        values["dtype"] = jnp.dtype(values["dtype"]).type
    return cls(**values)


def check_fields(cls: type, values: Mapping[str, Any]) -> None:
    """Raises ValueError where `values` name a field that `cls` does not have."""
    known = [field.name for field in dataclasses.fields(cls)]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise ValueError(
            f"{cls.__name__} has no field {unknown[0]!r}{nearest(unknown[0], known)} "
            f"Fields: {', '.join(known)}. Was this file written by a newer version?"
        )


def check_at_least(config: Any, least: Mapping[str, int]) -> None:
    """Raises ValueError where a field is below its least value, infinite or NaN."""
    for name, bound in least.items():
        value = getattr(config, name)
        if not bound <= value < math.inf:
            finite = " and finite" if isinstance(value, float) else ""
            raise ValueError(
                f"{type(config).__name__}.{name} is {value}; it must be at least {bound}{finite}."
            )


def without_execution_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `to_dict` of a config gave without the fields that say how to compute."""
    return {
        name: without_execution_fields(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if name not in EXECUTION_FIELDS
    }


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the end of a sentence about an unknown name: the name nearest to it, if any."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else "."
