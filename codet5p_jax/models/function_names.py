"""Functions in a config have names, so that the config can be written as JSON and read back."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

# Namespaces whose functions are defined in private modules, or share one qualified name.
PUBLIC_NAMESPACES: tuple[tuple[str, Any], ...] = (
    ("flax.linen", nn),
    ("jax.checkpoint_policies", jax.checkpoint_policies),
)


def function_name(function: Callable[..., Any]) -> str:
    """Returns a dotted path that `function_from_name` reads, such as ``flax.linen.relu``.

    Raises:
        ValueError: The function can be reached by no path (a lambda, a closure, a partial).
    """
    path = _path(function) or _path(inspect.unwrap(function))  # gin passes it in a wrapper
    if path is None:
        raise ValueError(
            f"{function!r} has no name that a JSON file could hold: it is no module-level "
            "function. Define it at the top level of a module and pass it from there."
        )
    return path


def function_from_name(path: str) -> Callable[..., Any]:
    """Returns the function at a dotted path written by `function_name`.

    Raises:
        ValueError: Nothing callable lies at that path.
    """
    function = _lookup(path)
    if not callable(function):
        raise ValueError(
            f"No function {path!r}. Expected a path such as 'flax.linen.relu' whose module is "
            "installed here; is the package that defined it missing?"
        )
    return function


def _path(function: Callable[..., Any]) -> str | None:
    for path, namespace in PUBLIC_NAMESPACES:
        for name, value in vars(namespace).items():
            if value is function:
                return f"{path}.{name}"
    path = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    return path if _lookup(path) is function else None


def _lookup(path: str) -> Any:
    """Returns what lies at `path`, or None."""
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except (ImportError, ValueError):
            continue
        for name in parts[end:]:
            value = getattr(value, name, None)
        return value
    return None
