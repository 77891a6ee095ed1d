"""Two programs measured in turns, A B A B, in one run: what slows the machine slows both.

Each side is a process of its own, so that neither's threads, caches or memory count for the
other. It says when it is ready, then works one turn whenever it is told to (see `serve`).
"""

import dataclasses
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = pathlib.Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """A program to measure.

    Attributes:
        name: As it stands in tables.
        command: What starts it; it must call `serve`.
    """

    name: str
    command: Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one side did.

    Attributes:
        name: Name of the side.
        seconds: Wall time of one unit of work (a step, a batch) in each turn.
        cpu_seconds: Processor time of the same, all threads together.
        peak_bytes: Most memory the process ever held.
        facts: What the side told of itself: versions, threads, parameters.
    """

    name: str
    seconds: Sequence[float]
    cpu_seconds: Sequence[float]
    peak_bytes: int
    facts: Mapping[str, Any]

    @property
    def median(self) -> float:
        """Median wall time of a unit, in seconds."""
        return statistics.median(self.seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Our side, the peer's, and how they compare.

    Attributes:
        name: Name of the benchmark, and of its result file.
        ours: Our side.
        peer: What it is compared with.
        limits: Largest ratio (ours / peer) allowed, by quantity: "time", "memory".
    """

    name: str
    ours: Measurement
    peer: Measurement
    limits: Mapping[str, float]

    @property
    def ratios(self) -> dict[str, float]:
        """Ours divided by the peer's: median wall and processor time, and peak memory."""
        cpu = (statistics.median(side.cpu_seconds) for side in (self.ours, self.peer))
        ours_cpu, peer_cpu = cpu
        return {
            "time": self.ours.median / self.peer.median,
            "cpu_time": ours_cpu / peer_cpu,
            "memory": self.ours.peak_bytes / self.peer.peak_bytes,
        }

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON values."""
        return {
            "name": self.name,
            "ratios": self.ratios,
            "limits": dict(self.limits),
            "met": {k: self.ratios[k] <= limit for k, limit in self.limits.items()},
            "sides": [dataclasses.asdict(side) for side in (self.ours, self.peer)],
            "machine": machine(),
        }

    def write(self, directory: pathlib.Path = RESULTS) -> pathlib.Path:
        """Writes `directory`/`name`.json and returns its path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.name}.json"
        path.write_text(json.dumps(self.to_dict(), indent=1, default=str) + "\n")
        return path

    def table(self) -> Table:
        """Returns the table to print: medians, ratios and whether they keep their limits."""
        table = Table(title=f"{self.name}: medians of {len(self.ours.seconds)} turns each")
        for column in ("", self.ours.name, self.peer.name, "ratio", "limit"):
            table.add_column(column, justify="right" if column else "left")
        for label, quantity, values in (
            ("seconds", "time", [f"{s.median:.3f}" for s in self._sides]),
            ("CPU seconds", "cpu_time", [f"{_median_cpu(s):.3f}" for s in self._sides]),
            ("peak memory, GB", "memory", [f"{s.peak_bytes / 1e9:.2f}" for s in self._sides]),
        ):
            table.add_row(label, *values, f"{self.ratios[quantity]:.2f}", self._verdict(quantity))
        return table

    @property
    def _sides(self) -> tuple[Measurement, Measurement]:
        return self.ours, self.peer

    def _verdict(self, quantity: str) -> str:
        if quantity not in self.limits:
            return ""
        met = self.ratios[quantity] <= self.limits[quantity]
        return (
            f"{self.limits[quantity]:.2f} [green]met[/]"
            if met
            else (f"{self.limits[quantity]:.2f} [red]missed[/]")
        )


def compare(
    name: str,
    ours: Side,
    peer: Side,
    *,
    turns: int,
    units: int,
    limits: Mapping[str, float],
) -> Comparison:
    """Runs both sides in turns and returns the comparison.

    Args:
        name: Name of the benchmark.
        ours: Our side.
        peer: The other.
        turns: Measured turns of each side; one more goes before them and is not counted.
        units: Units of work in a turn.
        limits: Largest ratios allowed.

    Raises:
        RuntimeError: A side died; the message holds its command.
    """
    processes = [_Process(side) for side in (ours, peer)]
    try:
        for turn in range(turns + 1):
            for process in processes:
                process.work(units, counted=turn > 0)
        measurements = [process.finish() for process in processes]
    finally:
        for process in processes:
            process.stop()
    return Comparison(name=name, ours=measurements[0], peer=measurements[1], limits=limits)


def report(comparison: Comparison) -> None:
    """Writes the result file and prints the table."""
    path = comparison.write()
    console = Console()
    console.print(comparison.table())
    console.print(f"written to {path.relative_to(pathlib.Path.cwd())}" if _is_below(path) else path)


def serve(work: Callable[[int], None], *, facts: Mapping[str, Any]) -> None:
    """Works turns on demand, in a side's process: reads a number of units, answers with times.

    A unit goes before each turn and is not counted: while the other side works, a virtual machine
    gives this side's free memory back to its host, and the first unit pays for getting it again.

    Args:
        work: Does so many units of work, and waits until they are done.
        facts: What to tell of this side.
    """
    answer, requests = sys.stdout, sys.stdin
    sys.stdout = sys.stderr  # what libraries print is no answer
    print(json.dumps({"facts": dict(facts)}), file=answer, flush=True)
    for request in requests:
        units = int(request)
        work(1)
        start, cpu_start = time.perf_counter(), time.process_time()
        work(units)
        seconds = (time.perf_counter() - start) / units
        cpu_seconds = (time.process_time() - cpu_start) / units
        turn = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": _peak_bytes()}
        print(json.dumps(turn), file=answer, flush=True)


def machine() -> dict[str, Any]:
    """Returns what the figures depend on: processor, cores, load, versions."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": platform.platform(),
    }


class _Process:
    """The other end of `serve`."""

    def __init__(self, side: Side):
        self._side = side
        self._turns: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            side.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._facts = self._answer()["facts"]

    def work(self, units: int, *, counted: bool) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{units}\n")
        self._process.stdin.flush()
        turn = self._answer()
        if counted:
            self._turns.append(turn)

    def finish(self) -> Measurement:
        return Measurement(
            name=self._side.name,
            seconds=[turn["seconds"] for turn in self._turns],
            cpu_seconds=[turn["cpu_seconds"] for turn in self._turns],
            peak_bytes=self._turns[-1]["peak_bytes"],
            facts=self._facts,
        )

    def stop(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{self._side.name} ended with exit code {self._process.wait()} before its turn; "
                f"its error stands above. Command: {' '.join(self._side.command)}"
            )
        return json.loads(line)


def _median_cpu(side: Measurement) -> float:
    return statistics.median(side.cpu_seconds)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB


def _processor() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _is_below(path: pathlib.Path) -> bool:
    return path.is_relative_to(pathlib.Path.cwd())
