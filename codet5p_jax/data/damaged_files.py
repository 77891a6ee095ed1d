"""Record files that cannot be read: what TensorFlow raises, as an error that names the file."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def damage_named(path: str, *, offset: int = 0) -> Iterator[None]:
    """Turns an error of reading `path` into one that names it; other errors pass.

    Args:
        path: The record file that is read inside.
        offset: First byte read.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        if not _is_damage(error):
            raise
        raise ValueError(
            f"Record file {path!r} is damaged at or behind byte {offset:,}: {_reason(error)}. "
            "Delete its directory and write it again (`codet5p cache` or `codet5p corpus build`)."
        ) from error


def _is_damage(error: tf.errors.OpError) -> bool:
    return isinstance(error, tf.errors.DataLossError) or "Could not parse example" in error.message


def _reason(error: tf.errors.OpError) -> str:
    lines = [line for line in error.message.splitlines() if "record" in line or "parse" in line]
    if not lines:
        return "its checksum is wrong"
    return lines[0].split("}} ")[-1].split(" [Op:")[0].strip().rstrip(".")
