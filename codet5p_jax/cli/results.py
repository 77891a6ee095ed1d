"""How commands that measure something write and print it."""

import datetime
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codet5p_jax.training.json_files import write_json

if TYPE_CHECKING:
    from rich.console import Console


def now() -> str:
    """Returns the time as results hold it, UTC to the second."""
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")


def write_results(path: pathlib.Path, results: Mapping[str, Any]) -> None:
    """Writes results as JSON, whole or not at all."""
    write_json(path, results, indent=1, ensure_ascii=False)


def results_console(log_width: int) -> "Console":
    """Returns the terminal, or a console of `log_width` columns: a log has no width of its own."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=log_width)
