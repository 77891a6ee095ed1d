"""Progress of whatever lasts: a bar on a terminal, a plain line every ten seconds elsewhere.

Example::

    with progress("fetching", total=12, unit="packages") as shown:
        for package in packages:
            fetch(package)
            shown.advance()

    for batch in track(batches, "training", total=1_000, unit="steps"):
        ...
"""

import collections
import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import IO, Any, Protocol, TypeVar, cast, runtime_checkable

T = TypeVar("T")
Number = int | float

SECONDS_BETWEEN_LINES = 10.0
_LINES_IN_RATE = 7  # the rate is that of the last minute, so that a slow start is forgotten


@runtime_checkable
class Progress(Protocol):
    """How far a task is; `progress` yields one."""

    def advance(self, count: Number = 1, *, note: str | None = None) -> None:
        """Adds `count` to what is done; `note` (for example a loss) is shown at the end."""


class PlainLines:
    """Progress as lines of text, for logs and pipes.

    Args:
        description: What is going on, one or two words.
        total: Count at which the task is done; None when unknown.
        unit: What is counted, in the plural.
        stream: Where the lines go.
        done: Count that was done before; it is no part of the rate.
        clock: Seconds; any origin.
    """

    def __init__(
        self,
        description: str,
        total: Number | None = None,
        *,
        unit: str = "items",
        stream: io.TextIOBase | None = None,
        done: Number = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._description = description
        self._total = total
        self._unit = unit
        self._stream = stream
        self._clock = clock
        self._done = float(done)
        self._note = ""
        self._advances = 0
        self._reports = collections.deque([(clock(), self._done)], maxlen=_LINES_IN_RATE)
        self._start = clock()

    def advance(self, count: Number = 1, *, note: str | None = None) -> None:
        """Adds `count`; writes a line if the last one is ten seconds old."""
        self._advances += 1
        self._done += count
        self._note = self._note if note is None else note
        if self._clock() - self._reports[-1][0] >= SECONDS_BETWEEN_LINES:
            self._write_line()

    def close(self) -> None:
        """Writes the last line: what was done, and in what time."""
        seconds = self._clock() - self._start
        self._print(f"{self._count()} in {_duration(seconds)}")

    def _write_line(self) -> None:
        now = self._clock()
        if self._advances == 1:  # slow to begin with: a compilation, which says nothing of the rest
            self._reports.clear()
            self._reports.append((now, self._done))
            self._print(f"{self._count()}, the first in {_duration(now - self._start)}")
            return
        then, done_then = self._reports[0]
        rate = (self._done - done_then) / max(now - then, 1e-9)
        self._reports.append((now, self._done))
        left = _time_left(self._done, self._total, rate)
        self._print(f"{self._count()}, {_number(rate)} {self._unit}/s{left}")

    def _count(self) -> str:
        of_total = "" if self._total is None else f" of {_number(self._total)}"
        return f"{_number(self._done)}{of_total} {self._unit}"

    def _print(self, text: str) -> None:
        note = f" ({self._note})" if self._note else ""
        stream = _standard_error() if self._stream is None else self._stream
        print(f"{self._description}: {text}{note}", file=stream, flush=True)


class _Bar:
    """Progress as a bar of rich, on a terminal."""

    def __init__(self, bars: Any, task: Any):
        self._bars = bars
        self._task = task

    def advance(self, count: Number = 1, *, note: str | None = None) -> None:
        fields = {} if note is None else {"note": note}
        self._bars.update(self._task, advance=count, **fields)


@contextlib.contextmanager
def progress(
    description: str,
    total: Number | None = None,
    *,
    unit: str = "items",
    stream: io.TextIOBase | None = None,
    done: Number = 0,
) -> Iterator[Progress]:
    """Shows the progress of a block of code, with its rate and the time left.

    Args:
        description: What is going on, one or two words.
        total: Count at which the task is done; None when unknown.
        unit: What is counted, in the plural.
        stream: Where it is shown; standard error by default.
        done: Count that an earlier run did already; it is no part of the rate.
    """
    target = _standard_error() if stream is None else stream
    if target.isatty():
        with _bar(description, total, unit=unit, stream=target, done=done) as bar:
            yield bar
        return
    lines = PlainLines(description, total, unit=unit, stream=target, done=done)
    yield lines
    lines.close()


def track(
    iterable: Iterable[T],
    description: str,
    *,
    total: Number | None = None,
    unit: str = "items",
) -> Iterator[T]:
    """Yields the elements of `iterable` and shows how many were taken; of `len`, if it has one."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with progress(description, total, unit=unit) as shown:
        for element in iterable:
            yield element
            shown.advance()


@contextlib.contextmanager
def _bar(
    description: str, total: Number | None, *, unit: str, stream: io.TextIOBase, done: Number
) -> Iterator[Progress]:
    from rich import console
    from rich import progress as rich_progress

    class Rate(rich_progress.ProgressColumn):
        def render(self, task: rich_progress.Task) -> Any:
            rate = f"{_number(task.speed)} {unit}/s" if task.speed else ""
            return rich_progress.Text(rate, style="progress.data.speed")

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        Rate(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("left"),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}"),
    )
    bars = rich_progress.Progress(*columns, console=console.Console(file=cast(IO[str], stream)))
    with bars:
        yield _Bar(bars, bars.add_task(description, total=total, completed=int(done), note=""))


def _standard_error() -> io.TextIOBase:
    return cast(io.TextIOBase, sys.stderr)


def _number(value: Number) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _duration(seconds: Number) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _time_left(done: Number, total: Number | None, rate: Number) -> str:
    if total is None or rate <= 0:
        return ""
    return f", {_duration(max(total - done, 0) / rate)} left"
