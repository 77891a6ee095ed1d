"""Compiled steps on disk, so that a run starts without compiling.

Two ways. Entries of JAX's compilation cache: a run that compiles the very same program with the
same jaxlib, compiler and flags finds it there, and nobody has to change a line. And executables:
a program of one's own loads and calls them, without tracing the model at all.
"""

import contextlib
import pathlib
import pickle
import warnings
from collections.abc import Iterator, Sequence

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache


def save_step(executable: jax.stages.Compiled, path: pathlib.Path) -> int:
    """Writes a compiled step to a file, and returns the file's bytes.

    Args:
        executable: Of a jitted function; its devices need not exist.
        path: Of the file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = pickle.dumps(serialize_executable.serialize(executable))
    path.write_bytes(contents)
    return len(contents)


def load_step(path: pathlib.Path, *, devices: Sequence[jax.Device]) -> jax.stages.Compiled:
    """Returns a step that `save_step` wrote, ready to be called. Load no file of a stranger.

    Args:
        path: Of the file.
        devices: That it shall run on: as many, of the same kind and ids, as it was compiled for.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no such step, or is of other devices or another compiler.
    """
    try:
        serialized, in_tree, out_tree = pickle.loads(path.read_bytes())
        return serialize_executable.deserialize_and_load(
            serialized, in_tree, out_tree, devices[0].client, devices
        )
    except FileNotFoundError:
        raise
    except Exception as error:  # pickle, JAX and the compiler each raise types of their own
        message = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{path} is no step that {len(devices)} devices {devices[0].device_kind!r} can run "
            f"({type(error).__name__}: {message}). Save it again with the jax and libtpu of this "
            "machine and its topology: codet5p precompile --save=DIR"
        ) from error


@contextlib.contextmanager
def compilation_cache_at(directory: pathlib.Path) -> Iterator[None]:
    """Within it, whatever is compiled is kept in `directory`, however small and quick.

    Args:
        directory: That a run names as JAX_COMPILATION_CACHE_DIR.
    """
    wanted = {
        "jax_compilation_cache_dir": str(directory),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in wanted}
    try:
        _configure(wanted)
        with warnings.catch_warnings():
            # Devices that are not there find an entry, cannot load it, and compile again.
            warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry")
            yield
    finally:
        _configure(before)


def _configure(values: dict[str, object]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # it has read the configuration once
