"""Watches the other processes of a run: who is alive, who failed, and who was asked to stop.

A thread beside the training loop. Each second it gives a sign of life and reads those of the
others, all in the key-value store of JAX's coordination service, so that no step pays for it.

- A process that falls silent, or that failed, ends this one with a message that names it:
  collectives would wait for it for ever.
- A signal that came to one process stops all of them behind the same step. Each watch tells how
  often its loop has asked so far, and holds the loop until all have told; the loop that has asked
  most stops when it next asks, the others when they have caught up. (JAX's preemption service does
  it so, too, but knows SIGTERM alone.)
"""

import atexit
import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, final

from codet5p_jax.training.cluster import host_and_port
from codet5p_jax.training.preemption import EXIT_CODES, StopRequest

LOST_PROCESS_EXIT_CODE = 75  # sysexits.h: temporary failure; start all processes again
SECONDS_BETWEEN_SIGNS = 1.0
_SECONDS_WHILE_AGREEING = 0.05  # loops are held meanwhile
_SECONDS_OF_AN_EXIT = 4.0  # between the last sign of life and the end of a process
_GRACE_SECONDS = 5.0  # for a process that is about to fail with an error of its own
_FOLDER = "codet5p/watch/"
_COLLECTIVE = re.compile(r"gloo|nccl|collective|UNAVAILABLE|DEADLINE_EXCEEDED|coordination", re.I)


@final
class AgreedStop:
    """When all processes stop: asked once a step, it answers alike in all of them."""

    def __init__(self, request: StopRequest) -> None:
        """Begins with a request that no signal has set."""
        self.request = request
        self.lock = threading.Lock()  # held by the watch while it agrees with the others
        self.asked = 0
        self._limit: int | None = None
        self._signal: signal.Signals | None = None

    def due(self) -> bool:
        """Returns whether to stop now; every process asks equally often, and hears the same."""
        with self.lock:
            self.asked += 1
            return self._limit is not None and self.asked > self._limit

    def settle(self, limit: int, number: int) -> None:
        """Stops every process when it asks for the time `limit` + 1, as signal `number` wants."""
        self._limit, self._signal = limit, signal.Signals(number)

    @property
    def settled(self) -> bool:
        """Whether it is known when to stop."""
        return self._limit is not None

    @property
    def exit_code(self) -> int:
        """Exit code of a run stopped by the signal; 0 when none has come."""
        return EXIT_CODES[self._signal] if self._signal else 0


@final
class ProcessWatch:
    """Sees the other processes while its block lasts, and ends this one when it cannot go on."""

    def __init__(
        self,
        client: Any,
        *,
        index: int,
        names: Sequence[str],
        address: str,
        silence_seconds: float,
    ) -> None:
        """Begins to watch when the block is entered.

        Args:
            client: Client of JAX's coordination service.
            index: Which process this is.
            names: Host and process id of every process.
            address: host:port of process 0.
            silence_seconds: After so long without a sign of life a process counts as lost.
        """
        self._client = client
        self._index = index
        self._names = names
        self._address = address
        self._silence_seconds = silence_seconds
        self._stop: AgreedStop | None = None
        self._agreeing = False
        self._signs = 0
        now = time.monotonic()
        self._heard = now  # when the store last answered
        self._seen = {other: ("", now) for other in range(len(names)) if other != index}
        self._failed_at: float | None = None
        self._verdict = ""  # what is known of the process that is gone
        self._ending = threading.Event()  # this process is about to end by itself
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="codet5p-watch", daemon=True)

    def share(self, request: StopRequest) -> AgreedStop:
        """Returns the stop to ask instead of `request`, which this watch looks at from now on."""
        self._stop = AgreedStop(request)
        return self._stop

    def __enter__(self) -> "ProcessWatch":
        """Starts the thread."""
        self._last_words = last_words(self._said_on_abort)
        self._last_words.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the thread; tells the others of an error, and does not wait for them at exit."""
        if error is None:
            self._end()
        else:
            atexit.register(self._end)  # gives signs of life until then
            self._fail(error)

    def _said_on_abort(self) -> str:
        if self._index == 0 or _listens(self._address):
            return ""
        verdict = f"Process 0 ({self._names[0]}), which coordinates the run, is gone."
        return _with_consequence(self._index, verdict)

    def _end(self) -> None:
        self._closing.set()
        self._thread.join()
        self._last_words.__exit__(None, None, None)

    def _fail(self, error: BaseException) -> None:
        self._ending.set()  # from now on the watch looks, and does not act
        if _COLLECTIVE.search(str(error)):  # somebody else is gone: the watch will know who
            self._wait_for(lambda: bool(self._verdict), self._silence_seconds + _GRACE_SECONDS)
            if self._verdict:
                _say_and_exit(_with_consequence(self._index, self._verdict))
        with contextlib.suppress(Exception):
            self._post(f"failed/{self._index}", f"{type(error).__name__}: {str(error)[:1000]}")
        if self._index == 0:  # the store ends with process 0, and whoever is still connected to it
            self._wait_for(self._all_are_silent, self._silence_seconds)
        _leave_without_the_others()

    def _all_are_silent(self) -> bool:
        latest = max((when for _, when in self._seen.values()), default=0.0)
        return time.monotonic() - latest > _SECONDS_OF_AN_EXIT

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.1)

    def _run(self) -> None:
        while True:
            pause = _SECONDS_WHILE_AGREEING if self._agreeing else SECONDS_BETWEEN_SIGNS
            if self._closing.wait(pause):
                break
            self._look()
        if self._agreeing and self._stop is not None:
            self._stop.lock.release()

    def _look(self) -> None:
        try:
            self._signs += 1
            self._post(f"alive/{self._index}", str(self._signs))
            posted = self._posted()
        except Exception as error:  # whatever the store raises: it may come back
            if time.monotonic() - self._heard > self._silence_seconds:
                self._judge(f"Process 0 ({self._names[0]}) cannot be reached: {str(error)[:200]}.")
            return
        self._heard = time.monotonic()
        self._listen(posted)
        self._look_for_failures(posted)
        self._agree(posted)

    def _listen(self, posted: dict[str, str]) -> None:
        """Notes new signs of life; finds who has given none for too long."""
        for other, (sign, when) in self._seen.items():
            new = posted.get(f"alive/{other}", "")
            if new != sign:
                self._seen[other] = (new, self._heard)
            elif self._heard - when > self._silence_seconds:
                self._judge(
                    f"Process {other} ({self._names[other]}) has given no sign of life for "
                    f"{self._silence_seconds:.0f} s; it is dead, or cut off."
                )

    def _look_for_failures(self, posted: dict[str, str]) -> None:
        for other in self._seen:
            if f"failed/{other}" not in posted:
                continue
            self._failed_at = self._failed_at or self._heard
            self._verdict = (
                f"Process {other} ({self._names[other]}) stopped with an error: "
                f"{posted[f'failed/{other}']}"
            )
            if self._heard - self._failed_at > _GRACE_SECONDS:
                self._judge(self._verdict)

    def _agree(self, posted: dict[str, str]) -> None:
        """Takes this process's part in agreeing on when to stop."""
        stop = self._stop
        if stop is None or stop.settled:
            return
        if stop.request and f"stop/{self._index}" not in posted:
            self._post(f"stop/{self._index}", str(int(stop.request.signal or 0)))
        elif any(name.startswith("stop/") for name in posted) and not self._agreeing:
            stop.lock.acquire()  # the loop waits when it next asks
            self._agreeing = True
            self._post(f"asked/{self._index}", str(stop.asked))
        asked = [int(count) for name, count in posted.items() if name.startswith("asked/")]
        if len(asked) == len(self._names):  # who wants to stop has said so before it told this
            numbers = [int(n) for name, n in posted.items() if name.startswith("stop/")]
            stop.settle(max(asked), min(numbers))
            stop.lock.release()
            self._agreeing = False
            self._announce(posted)

    def _announce(self, posted: dict[str, str]) -> None:
        if f"stop/{self._index}" not in posted:
            asked = [name.removeprefix("stop/") for name in posted if name.startswith("stop/")]
            print(
                f"Process {', '.join(asked)} was asked to stop: all stop together.", file=sys.stderr
            )

    def _judge(self, verdict: str) -> None:
        """Keeps what is known of the process that is gone, and ends this one."""
        self._verdict = verdict
        if not self._ending.is_set():
            _say_and_exit(_with_consequence(self._index, verdict))

    def _post(self, name: str, text: str) -> None:
        self._client.key_value_set(f"{_FOLDER}{name}", text, allow_overwrite=True)

    def _posted(self) -> dict[str, str]:
        return {
            key.removeprefix(_FOLDER): text for key, text in self._client.key_value_dir_get(_FOLDER)
        }


def _with_consequence(index: int, verdict: str) -> str:
    return (
        f"{verdict.rstrip()}\nProcess {index} ends too, since no step can be taken without it. "
        "Start all processes again: the run continues from its newest checkpoint."
    )


def _say_and_exit(message: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(2, f"codet5p: error: {message}\n".encode())
    os._exit(LOST_PROCESS_EXIT_CODE)  # at a normal exit JAX would wait for the process that is gone


def _leave_without_the_others() -> None:
    """Keeps JAX from waiting, at the exit of this process, until all others exit too."""
    from jax._src import distributed

    state = distributed.global_state
    for connection in (state.client, state.service):
        # Freed, it would wait all the same.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    state.client = state.service = None


@contextlib.contextmanager
def last_words(words: Callable[[], str]) -> Iterator[None]:
    """Within its block, says `words()` when JAX aborts this process, and exits with 75.

    The coordination service's client aborts from a thread of its own, and its log does not tell
    whom it missed. (Its callback for this, missed_heartbeat_callback, raises std::bad_cast in
    jaxlib 0.10.) Where `words` returns nothing, the abort goes on.
    """

    def on_abort(number: int) -> None:
        if message := words():
            _say_and_exit(message)

    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    function = ctypes.CFUNCTYPE(None, ctypes.c_int)(on_abort)
    previous = libc.signal(signal.SIGABRT, ctypes.cast(function, ctypes.c_void_p))
    try:
        yield
    finally:
        libc.signal(signal.SIGABRT, previous)


def _listens(address: str) -> bool:
    try:
        socket.create_connection(host_and_port(address), timeout=2).close()
    except OSError:
        return False
    return True
