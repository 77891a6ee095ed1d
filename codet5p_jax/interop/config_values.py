"""Values of a config.json that become fields of ours: all there, of the field's type, and sane."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_NAMES = {int: "a whole number", float: "a number"}
# Far above any model: a damaged size is refused by name before shapes are made of it.
_MOST = 2**20
_MOST_LAYERS = 10_000
_LAYERS = {"num_layers", "num_encoder_layers", "num_decoder_layers", "cross_attention_layers"}
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


def copied_values(
    contents: Mapping[str, Any], names: Mapping[str, str], *, config: type, source: str
) -> dict[str, Any]:
    """Returns fields of `config` with the values that a config.json has for them.

    Args:
        contents: The parsed file, with defaults for what may be missing.
        names: Our field -> theirs.
        config: The class whose fields they become; its annotations say what is expected.
        source: What errors call the file.

    Raises:
        ValueError: Values are missing, of another type or beyond all models; the message names them
            all.
    """
    missing = [theirs for theirs in names.values() if contents.get(theirs) is None]
    if missing:
        raise ValueError(f"{source} lacks {', '.join(missing)}; is it the config of a whole model?")
    types = {field.name: field.type for field in dataclasses.fields(config)}
    expected = {ours: float if types[ours] is float else int for ours in names}
    wrong = [
        f"{theirs}={contents[theirs]!r}, expected {instead}"
        for ours, theirs in names.items()
        if (instead := _expected_instead(ours, contents[theirs], expected[ours]))
    ]
    if wrong:
        raise ValueError(f"{source} has {'; '.join(wrong)}. Is it damaged? Copy it again.")
    return {ours: expected[ours](contents[theirs]) for ours, theirs in names.items()}


def check_supported(
    contents: Mapping[str, Any], supported: Mapping[str, tuple[Any, ...]], *, source: str
) -> None:
    """Compares values of a config.json with those that are supported.

    Args:
        contents: The parsed file.
        supported: Key -> values; the first stands for one that is missing.
        source: What errors call the file.

    Raises:
        ValueError: A value is another.
    """
    for key, choices in supported.items():
        value = contents.get(key, choices[0])
        if value not in choices:
            raise ValueError(
                f"{source} has {key}={value!r}; supported: {', '.join(map(repr, choices))}."
            )


@contextlib.contextmanager
def naming(source: str) -> Iterator[None]:
    """Puts `source`, what errors call the file, before any ValueError raised in the block."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _expected_instead(ours: str, value: Any, expected: type) -> str | None:
    """Returns what is expected of a field instead of `value`; None: the value may be."""
    if isinstance(value, bool) or not isinstance(value, int if expected is int else (int, float)):
        return _NAMES[expected]
    if expected is float:
        possible = 0 <= value <= _LARGEST_FLOAT32  # never of NaN
        return None if possible else f"a number from 0 to {_LARGEST_FLOAT32:.1e}"
    most = _MOST_LAYERS if ours in _LAYERS else _MOST
    return None if value <= most else f"at most {most:,}"
