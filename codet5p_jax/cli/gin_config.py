"""Gin files and bindings of a command line -> the function to run, with errors that help.

Nothing else in the package knows gin.
"""

import argparse
import ast
import copy
import difflib
import importlib.resources
import inspect
import logging
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
from gin import config as gin_internals

FORMS = {"INSTRUCTION_FILES": "\"{'NAME': 'FILE.json'}\""}  # of macros that are no plain text


class GinConfigError(ValueError):
    """Gin files or bindings that do not fit the code; the message names the nearest names."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds T5X's flags: --gin_file=PATH, repeatable, and --gin.NAME=VALUE."""
    parser.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="PATH",
        help="gin file, a path or a name below gin/, such as recipes/quickstart_stage1.gin; "
        "repeatable, the later one wins",
    )
    parser.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="binding, such as BATCH_SIZE=64; --gin.BATCH_SIZE=64 is the same",
    )


def check_arguments(arguments: argparse.Namespace, *, example: str) -> None:
    """Checks T5X's flags as far as that goes without reading a file.

    Args:
        arguments: Of a command that needs a recipe.
        example: A command line with one.

    Raises:
        GinConfigError: No gin file is given or one does not exist, or a binding is no NAME=VALUE.
    """
    if not arguments.gin_file:
        raise GinConfigError(f"Give a recipe: {example}")
    for path in arguments.gin_file:
        check_file(path)
    for binding in arguments.gin_bindings:
        _quoted(binding)


def gin_directories() -> list[pathlib.Path]:
    """Returns where gin files are looked for: here, the repository's gin/, the package's."""
    repository = pathlib.Path(__file__).parents[2] / "gin"
    packaged = pathlib.Path(str(importlib.resources.files("codet5p_jax"))) / "gin"
    return [pathlib.Path.cwd(), *(path for path in (repository, packaged) if path.is_dir())]


def bind(
    function: Callable[..., Any], *, gin_files: Sequence[str], bindings: Sequence[str]
) -> Callable[..., Any]:
    """Returns `function` with its arguments bound by gin; parses the files anew.

    Args:
        function: What to call; its module is named in the gin files.
        gin_files: Paths, or names below gin/.
        bindings: NAME=VALUE; a plain text value needs no quotes.

    Raises:
        GinConfigError: For an unknown file, name, parameter or macro, and for a missing value.
    """
    parse(gin_files=gin_files, bindings=bindings)
    try:
        return gin.get_configurable(function)
    except ValueError as error:
        raise GinConfigError(
            f"No gin file of {', '.join(gin_files)} binds {function.__module__}; give a recipe, or "
            "add --gin_file=runs/pretrain.gin"
        ) from error


def arguments(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns what the parsed files bind to the arguments of `function`, without calling it.

    Raises:
        GinConfigError: No file names its module.
    """
    configurable = gin_internals._inverse_lookup(function)
    if configurable is None:
        raise GinConfigError(f"No gin file binds {function.__module__}; add runs/pretrain.gin.")
    # Copying a reference calls what it refers to: that is how gin itself makes arguments.
    return copy.deepcopy(gin_internals._CONFIG[("", configurable.selector)])


def parse(*, gin_files: Sequence[str], bindings: Sequence[str]) -> None:
    """Parses the files anew, then the bindings.

    Raises:
        GinConfigError: See `bind`.
    """
    gin.clear_config()
    # Plain files only: gin's other reader looks into Python packages, and takes the folder runs/ of
    # the current directory, where `make pretrain` writes, for one when it is on sys.path.
    gin_internals._FILE_READERS = gin_internals._FILE_READERS[:1]
    for directory in gin_directories():
        gin.add_config_file_search_path(str(directory))
    for path in gin_files:
        check_file(path)
    quoted = [_quoted(binding) for binding in bindings]
    logging.disable(logging.ERROR)  # gin logs an error for each folder a file is not in
    try:
        gin.parse_config_files_and_bindings(list(gin_files), [], finalize_config=False)
        _check_macros(bindings)
        gin.parse_config(quoted)
        _check_read(bindings)
        _check_required()
    except GinConfigError:
        raise
    except (ValueError, AttributeError, ImportError, SyntaxError, RuntimeError, OSError) as error:
        raise GinConfigError(_explained(error)) from error
    finally:
        logging.disable(logging.NOTSET)


def config_text() -> str:
    """Returns the parsed configuration as gin text, every binding in force."""
    return gin.config_str(max_line_length=100)


def resolved_bindings() -> dict[str, str]:
    """Returns parameter -> value of every binding in force, macros replaced by what they stand for.

    Macros themselves are left out: one that nothing reads changes nothing.
    """
    macros = _macros()
    return {
        "/".join(filter(None, [scope, f"{selector}.{parameter}"])): repr(_resolved(value, macros))
        for (scope, selector), values in gin_internals._CONFIG.items()
        if selector != "gin.macro"
        for parameter, value in values.items()
    }


def macro_values() -> dict[str, Any]:
    """Returns macro -> value of every macro in force, macros in it replaced by theirs."""
    macros = _macros()
    return {name: _resolved(value, macros) for name, value in macros.items()}


def _resolved(value: Any, macros: Mapping[str, Any]) -> Any:
    if isinstance(value, gin_internals.ConfigurableReference):
        if value.selector == "gin.macro":
            return _resolved(macros.get(value.scopes[-1]), macros)
        return value
    if isinstance(value, dict):
        return {key: _resolved(value[key], macros) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return type(value)(_resolved(each, macros) for each in value)
    return value


def check_file(path: str) -> None:
    """Raises GinConfigError, with the nearest names, when there is no such gin file."""
    directories = gin_directories()
    if any((directory / path).is_file() for directory in directories):
        return
    known = sorted(
        str(file.relative_to(directory))
        for directory in directories[1:]
        for file in directory.rglob("*.gin")
    )
    raise GinConfigError(f"No gin file {path!r}. {nearest(path, known)}")


def nearest(name: str, known: Sequence[str]) -> str:
    """Returns a sentence with the names closest to `name`, or all that there are."""
    close = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(sorted(set(known)))}."


def _quoted(binding: str) -> str:
    """Quotes a value that is plain text: paths and names need no quotes on a command line."""
    name, sign, value = binding.partition("=")
    if not sign or not name:
        raise GinConfigError(f"Binding {binding!r} is not of the form NAME=VALUE.")
    if value.startswith(("@", "%")):
        return binding
    try:
        ast.literal_eval(value)
        return binding
    except (ValueError, SyntaxError):
        return binding if re.search(r"[@%\[({]", value) else f"{name}={value!r}"


def _macros() -> dict[str, Any]:
    """Returns the macros defined so far, with their values."""
    return {
        scope: values.get("value")
        for (scope, selector), values in gin_internals._CONFIG.items()
        if selector == "gin.macro"
    }


def _check_macros(bindings: Sequence[str]) -> None:
    """A macro on the command line that no file defines would bind nothing, silently."""
    known = _macros()
    for binding in bindings:
        name = binding.partition("=")[0].strip()
        if "." not in name and name not in known:
            raise GinConfigError(f"No gin file defines {name!r}. {nearest(name, list(known))}")


def _check_read(bindings: Sequence[str]) -> None:
    """A macro on the command line that no binding reads would change nothing, silently."""
    macros = _macros()
    read: set[str] = set()
    for (_, selector), values in gin_internals._CONFIG.items():
        if selector != "gin.macro":
            _add_macros(list(values.values()), macros, read)
    for binding in bindings:
        name = binding.partition("=")[0].strip()
        if name in macros and name not in read:
            raise GinConfigError(
                f"Nothing reads {name!r} in these gin files, so it would change nothing. "
                f"{nearest(name, sorted(read))}"
            )


def _add_macros(value: Any, macros: Mapping[str, Any], read: set[str]) -> None:
    """Adds the macros that `value` refers to, and those that these refer to."""
    if isinstance(value, gin_internals.ConfigurableReference):
        if value.selector == "gin.macro" and value.scopes[-1] not in read:
            read.add(value.scopes[-1])
            _add_macros(macros.get(value.scopes[-1]), macros, read)
    elif isinstance(value, dict):
        _add_macros(list(value.values()), macros, read)
    elif isinstance(value, list | tuple):
        for each in value:
            _add_macros(each, macros, read)


def _check_required() -> None:
    missing = sorted(name for name, value in _macros().items() if "gin.REQUIRED" in str(value))
    if missing:
        flags = " ".join(f"--gin.{name}={FORMS.get(name, '...')}" for name in missing)
        raise GinConfigError(f"The recipe needs {', '.join(missing)}. Give {flags}")


def _explained(error: Exception) -> str:
    """Returns gin's message, and the names that would have been right."""
    message = " ".join(str(error).split())
    parameter = re.search(r"[`'\"]?([\w.]+)[`'\"]? doesn't have a parameter named '(\w+)'", message)
    if parameter:
        known = _parameters(parameter.group(1))
        hint = nearest(parameter.group(2), known) if known else ""
        return f"{parameter.group(1)} has no parameter {parameter.group(2)!r}. {hint} ({message})"
    attribute = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message)
    if attribute:
        names = [n for n in vars(importlib.import_module(attribute.group(1))) if n[0] != "_"]
        return f"{attribute.group(0)}. {nearest(attribute.group(2), names)}"
    unknown = re.search(r"[Nn]o configurable matching '?([\w./]+)'?", message)
    if unknown:
        known = [".".join(s.split(".")[-2:]) for s in gin_internals._REGISTRY._selector_map]
        return f"{message} {nearest(unknown.group(1), known)}"
    return message


def _parameters(selector: str) -> list[str]:
    configurable = gin_internals._REGISTRY.get_match(selector)
    if configurable is None:
        return []
    return list(inspect.signature(configurable.wrapped).parameters)
