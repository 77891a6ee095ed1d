"""Processes meet before JAX connects them, so that one who is missing or wrong can be named.

JAX's coordination service waits without a word, and then aborts the process with a stack trace that
does not tell whom it missed; a second process of one id ends a run that is under way. So whoever is
told an address meets there first: process 0 listens at the port that the service takes later, the
others introduce themselves, and all hear the same answer.
"""

import contextlib
import dataclasses
import errno
import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, final

from codet5p_jax.training.cluster import Cluster, MultihostError, host_and_port, own_name

_HELLO = b"codet5p "  # before an introduction, and before an answer
_OK = "ok"
_SECONDS_TO_SPEAK = 5.0  # who connects and says nothing is no process of ours
_SECONDS_UNTIL_NOTICE = 10.0
_SLACK = 5.0  # process 0 tells the others who is missing before they give up


def meet(cluster: Cluster) -> None:
    """Returns when all processes of the cluster have come, and agree on how many they are.

    Args:
        cluster: With an address, a number of processes and an id.

    Raises:
        MultihostError: Some have not come in time, two have the same id, they were told different
            numbers, the port is taken, or nobody answers at the address.
    """
    if cluster.process_id == 0:
        with _listening(cluster) as listener:
            _Reception(cluster, listener).wait()
    else:
        _introduce(cluster)


@dataclasses.dataclass
class _Guest:
    """A process that has introduced itself, and waits for the answer."""

    connection: socket.socket
    name: str
    count: int

    def has_gone(self) -> bool:
        """Returns whether it has closed its end: nobody speaks twice."""
        self.connection.setblocking(False)
        try:
            self.connection.recv(1)
            return True
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(_SECONDS_TO_SPEAK)

    def answer(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self.connection.sendall(_HELLO + text.encode())
        self.connection.close()


@final
class _Reception:
    """Process 0, until all have come."""

    def __init__(self, cluster: Cluster, listener: socket.socket) -> None:
        assert cluster.num_processes is not None
        self._address = cluster.coordinator_address
        self._count = cluster.num_processes
        self._clock = _Clock(cluster.arrival_seconds)
        self._listener = listener
        self._guests: dict[int, _Guest] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)

    def wait(self) -> None:
        """Answers all guests when the last has come, or when they cannot be one run."""
        try:
            while missing := self._missing():
                if self._clock.is_over:
                    raise MultihostError(self._who_is_missing(missing))
                self._clock.notice(f"Process 0 waits for {_processes(missing)}.")
                for key, _ in self._selector.select(timeout=0.5):
                    self._receive(key.fileobj)
        except MultihostError as error:
            self._answer_all(str(error))
            raise
        self._answer_all(_OK)

    def _missing(self) -> list[int]:
        return [index for index in range(1, self._count) if index not in self._guests]

    def _who_is_missing(self, missing: list[int]) -> str:
        here = [f"0 ({own_name()})", *(f"{i} ({g.name})" for i, g in sorted(self._guests.items()))]
        return (
            f"{_processes(missing).capitalize()} of {self._count} did not come to "
            f"{self._address} within {self._clock.seconds:.0f} s; here are {', '.join(here)}. See "
            "its output, or whether its host reaches this one; start all, or give all the "
            "--num_processes that are started; for slow hosts a longer --arrival_seconds."
        )

    def _receive(self, source: Any) -> None:
        if source is not self._listener:
            self._dismiss_who_has_gone()
            return
        connection, _ = self._listener.accept()
        connection.settimeout(_SECONDS_TO_SPEAK)
        try:
            told = json.loads(_spoken(connection))
            index, guest = told["index"], _Guest(connection, told["name"], told["count"])
        except (OSError, ValueError, KeyError):  # a port scan, a health check
            connection.close()
            return
        self._welcome(index, guest)

    def _dismiss_who_has_gone(self) -> None:
        for index, guest in list(self._guests.items()):
            if guest.has_gone():
                self._selector.unregister(guest.connection)
                guest.connection.close()
                del self._guests[index]

    def _welcome(self, index: int, guest: _Guest) -> None:
        self._dismiss_who_has_gone()  # whose successor may be heard before its end is
        error = self._objection(index, guest)
        if error:
            guest.answer(error)
            raise MultihostError(error)
        self._guests[index] = guest
        self._selector.register(guest.connection, selectors.EVENT_READ)

    def _objection(self, index: int, guest: _Guest) -> str:
        if guest.count != self._count:
            return (
                f"Process {index} ({guest.name}) was told that there are {guest.count} processes, "
                f"and process 0 ({own_name()}) that there are {self._count}. Give all of them "
                "the same --num_processes."
            )
        if index in self._guests:
            return (
                f"Two processes have the id {index}: {self._guests[index].name}, and {guest.name}. "
                f"Give each a --process_id of its own, from 0 to {self._count - 1}."
            )
        return ""

    def _answer_all(self, text: str) -> None:
        for guest in self._guests.values():
            guest.answer(text)


class _Clock:
    """How long to wait, and one line about it when it lasts."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._start = time.monotonic()
        self._silent = True

    @property
    def left(self) -> float:
        return self._start + self.seconds - time.monotonic()

    @property
    def is_over(self) -> bool:
        return self.left <= 0

    def notice(self, text: str) -> None:
        if self._silent and self.seconds - self.left > _SECONDS_UNTIL_NOTICE:
            self._silent = False
            print(text, file=sys.stderr, flush=True)


def _introduce(cluster: Cluster) -> None:
    """Comes to process 0, and waits for its answer."""
    address = cluster.coordinator_address
    assert address is not None
    told = {"index": cluster.process_id, "count": cluster.num_processes, "name": own_name()}
    clock = _Clock(cluster.arrival_seconds)
    while True:
        try:
            answer = _ask(host_and_port(address), json.dumps(told), seconds=clock.left + _SLACK)
            break
        except OSError as error:
            if clock.is_over:
                raise MultihostError(
                    f"Process {cluster.process_id} has not found process 0 at {address} within "
                    f"{clock.seconds:.0f} s: {_reason(error)}. Start process 0 on that host, give "
                    "all processes the --coordinator_address it listens at, and open the port to "
                    "them; for slow hosts a longer --arrival_seconds."
                ) from error
            clock.notice(
                f"Process {cluster.process_id} has not found process 0 at {address} yet: "
                f"{_reason(error)}."
            )
            time.sleep(0.5)
    if answer != _OK:
        raise MultihostError(answer)


def _ask(place: tuple[str, int], text: str, *, seconds: float) -> str:
    with socket.create_connection(place, timeout=_SECONDS_TO_SPEAK) as connection:
        connection.sendall(_HELLO + text.encode() + b"\n")
        connection.settimeout(max(seconds, _SLACK))
        return _spoken(connection)


def _spoken(connection: socket.socket) -> str:
    """Returns what the other end says after the greeting, to the end of the line or of all."""
    received = b""
    while not received.endswith(b"\n") and (part := connection.recv(4096)):
        received += part
        if not _HELLO.startswith(received[: len(_HELLO)]):
            break
    if not received.startswith(_HELLO):
        raise ConnectionError(
            "what listens there is another program, or a run that has begun already"
        )
    return received.removeprefix(_HELLO).decode()


@contextlib.contextmanager
def _listening(cluster: Cluster) -> Iterator[socket.socket]:
    """Yields the socket of process 0; JAX's service listens at the same port afterwards."""
    assert cluster.coordinator_address is not None
    bound = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS")  # as JAX's service does
    host, port = host_and_port(bound or cluster.coordinator_address)
    host = host if bound else ""
    dual = host in ("", "::") and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    try:
        listener = socket.create_server(
            (host, port), family=family, backlog=1024, dualstack_ipv6=dual
        )
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise MultihostError(
            f"Process 0 cannot listen at {bound or cluster.coordinator_address}: "
            f"{'another program or run has the port' if taken else _reason(error)}. Give all "
            "processes a --coordinator_address of the host of process 0 with a port that is free."
        ) from error
    with listener:
        yield listener


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    return (error.strerror or str(error)).lower()


def _processes(indices: list[int]) -> str:
    return f"process{'es' if len(indices) > 1 else ''} {', '.join(map(str, indices))}"
