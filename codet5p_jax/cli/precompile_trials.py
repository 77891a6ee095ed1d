"""Compiling for `--search` and `--smallest`: each try in a process of its own.

The compiler can take all memory of a machine, or end its process; a try must harm no other.
"""

import contextlib
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from codet5p_jax.cli.precompile_figures import Figures, fits
from codet5p_jax.cli.precompile_tables import needed_text
from codet5p_jax.cli.quantities import duration_text, memory_text

Option = TypeVar("Option")
ERROR = "codet5p: error: "  # how the command line begins what it cannot do
DOES_NOT_FIT = 1  # exit code of precompile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a try has shown.

    Attributes:
        phases: Figures of the phases compiled, in the order they were compiled in.
        fits: Whether all of them fit with the spare that was asked for.
        seconds: That the try took.
        failure: Why nothing could be compiled; empty where it could.
    """

    phases: Sequence[Figures] = ()
    fits: bool = False
    seconds: float = 0.0
    failure: str = ""

    @property
    def cost(self) -> tuple[float, int]:
        """Least step time, then memory: of two that fit the smaller is the cheaper."""
        return (
            sum(phase["step_seconds"] for phase in self.phases),
            max(phase["hbm_bytes"] for phase in self.phases),
        )

    def __str__(self) -> str:
        """Returns the outcome on one line: of the phase that needs most, or that does not fit."""
        if self.failure:
            return f"failed: {self.failure}"
        told = self.phases[-1]
        if self.fits:
            told = max(self.phases, key=lambda phase: phase["hbm_bytes"])
        return f"{_said(told, fits=self.fits)} ({self.seconds:.0f} s)"


def compile_in_child(words: Sequence[str]) -> Outcome:
    """Runs `codet5p precompile` with these words in a process of its own.

    Args:
        words: Without --json.

    Returns:
        An outcome that fits where the exit code says so; its failure is the command's error.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "figures.json"
        command = [sys.executable, "-m", "codet5p_jax.cli.main", "precompile", *words]
        with _sigterm_raises():
            child = subprocess.run(
                [*command, f"--json={path}"],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
        seconds = time.monotonic() - start
        if child.returncode not in (0, DOES_NOT_FIT) or not path.exists():
            return Outcome(failure=_failure(child), seconds=seconds)
        phases = json.loads(path.read_text(encoding="utf-8"))["phases"]
    return Outcome(phases=phases, fits=child.returncode == 0, seconds=seconds)


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM ends this process by SystemExit in the block, so that its child is killed first."""

    def stop(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def compile_until_one_does_not_fit(
    phases: Sequence[str],
    *,
    compile_phase: Callable[[str], Outcome],
    spare: float,
) -> Outcome:
    """Compiles phases one after the other, up to the first that does not fit.

    Args:
        phases: Names, those most likely not to fit first.
        compile_phase: Compiles the phase of a name.
        spare: Share of the usable memory that must be left.
    """
    figures: list[Figures] = []
    seconds = 0.0
    for phase in phases:
        outcome = compile_phase(phase)
        seconds += outcome.seconds
        if outcome.failure:
            return dataclasses.replace(outcome, seconds=seconds)
        figures += outcome.phases
        if not all(fits(each, spare=spare) for each in outcome.phases):
            return Outcome(phases=figures, fits=False, seconds=seconds)
    return Outcome(phases=figures, fits=True, seconds=seconds)


def first_that_fits(
    options: Sequence[Option], attempt: Callable[[Option], Outcome]
) -> Option | None:
    """Returns the first option that fits, by bisection; None where none does.

    What failed is left out: it says nothing of its neighbours.

    Args:
        options: In an order in which all options behind one that fits do fit.
        attempt: Tries one.
    """
    left, found = list(options), None
    while left:
        middle = (len(left) - 1) // 2
        outcome = attempt(left[middle])
        if outcome.failure:
            del left[middle]
        elif outcome.fits:
            found, left = left[middle], left[:middle]
        else:
            left = left[middle + 1 :]
    return found


def _said(figures: Mapping[str, Any], *, fits: bool) -> str:
    needed = needed_text(figures)
    if not figures["fits"]:
        return f"does not fit, needs {needed} of {memory_text(figures['usable_hbm_bytes'])}"
    memory = f"{needed}, {figures['spare']:.0%} spare"
    least = f"step of {duration_text(figures['step_seconds'])} or more ({figures['limit']})"
    return f"{memory}, {least}" if fits else f"{memory}: too little, {least}"


def _failure(child: subprocess.CompletedProcess[str]) -> str:
    lines = child.stderr.strip().splitlines() or ["it said nothing"]
    told = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return told[-1] if told else f"{lines[-1]} (exit code {child.returncode})"
