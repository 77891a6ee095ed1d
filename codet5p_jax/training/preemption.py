"""Signals that ask a run to stop: noted at once, acted on between two steps."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol, runtime_checkable

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}  # 128 + the signal's number, as shells say


@runtime_checkable
class Stop(Protocol):
    """When a run stops before its end; asked once a step."""

    def due(self) -> bool:
        """Returns whether to stop now."""

    @property
    def exit_code(self) -> int:
        """Exit code of the run; 0 when nothing has asked it to stop."""


class StopRequest:
    """Whether a signal has asked the run to stop, and which.

    Attributes:
        signal: The signal, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        """Returns whether a signal has come."""
        return self.signal is not None

    def due(self) -> bool:
        """Returns whether a signal has come: a run in one process stops then."""
        return bool(self)

    @property
    def exit_code(self) -> int:
        """Exit code of a run stopped by the signal; 0 when none has come."""
        return EXIT_CODES[self.signal] if self.signal else 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Yields a StopRequest that SIGINT or SIGTERM sets; a second SIGINT interrupts at once."""
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number)
        print(
            f"\n{request.signal.name}: stopping after this step and saving a checkpoint "
            "(Ctrl-C again stops at once, without saving).",
            file=sys.stderr,
            flush=True,
        )

    previous = {number: signal.signal(number, note) for number in EXIT_CODES}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
