"""Keeps what libraries write at import and below errors off the terminal."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced_stderr(*, told_by: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Swallows what C++ writes to standard error in the block; shows it if the block raises.

    TensorFlow reports a missing GPU at import, before any log level of its own is read.

    Args:
        told_by: Exceptions that tell all there is to tell; nothing is shown with them.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except BaseException as error:
            if not isinstance(error, told_by):
                sink.seek(0)
                os.write(saved, sink.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def hide_warnings_of_libraries() -> None:
    """Keeps TensorFlow's C++ to errors; to be called before jax is imported, which fixes it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def import_quietly() -> None:
    """Imports TensorFlow and SeqIO without what they write when no GPU is there."""
    with silenced_stderr():
        import seqio  # noqa: F401
        import tensorflow as tf

        # A reader per objective, each compiled once, looks to TensorFlow like one compiled anew.
        tf.get_logger().setLevel("ERROR")
        tf.config.set_visible_devices([], "GPU")  # TensorFlow reads files; JAX owns the devices


def errors_only() -> None:
    """Keeps absl's loggers, Orbax's among them, to errors."""
    from absl import logging

    logging.set_verbosity(logging.ERROR)
