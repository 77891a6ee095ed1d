"""Values of a config.json that become fields of ours: all there, and of the field's type."""

import dataclasses
from collections.abc import Mapping
from typing import Any

_NAMES = {int: "a whole number", float: "a number"}


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
        ValueError: Values are missing, or of another type; the message names them all.
    """
    missing = [theirs for theirs in names.values() if contents.get(theirs) is None]
    if missing:
        raise ValueError(f"{source} lacks {', '.join(missing)}; is it the config of a whole model?")
    types = {field.name: field.type for field in dataclasses.fields(config)}
    expected = {ours: float if types[ours] is float else int for ours in names}
    wrong = [
        f"{theirs}={contents[theirs]!r}, expected {_NAMES[expected[ours]]}"
        for ours, theirs in names.items()
        if not _is_a(contents[theirs], expected[ours])
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


def _is_a(value: Any, expected: type) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int if expected is int else (int, float))
