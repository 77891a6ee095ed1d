"""Tests of codet5p_jax.training.rendezvous: processes, here threads, who meet or say why not."""

import concurrent.futures
import contextlib
import json
import re
import socket
import threading
import time

import pytest

from codet5p_jax.training.cluster import Cluster, MultihostError
from codet5p_jax.training.rendezvous import meet


@pytest.fixture
def address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def _outcomes(address, *processes, seconds=10.0):
    """Lets processes (id, count) meet; returns "" or the error of each, in their order."""

    def outcome(index, count):
        try:
            meet(
                Cluster(
                    coordinator_address=address,
                    num_processes=count,
                    process_id=index,
                    arrival_seconds=seconds,
                )
            )
        except MultihostError as error:
            return str(error)
        return ""

    with concurrent.futures.ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(outcome, *zip(*processes, strict=True)))


def test_processes_that_all_come_meet(address):
    assert _outcomes(address, (2, 3), (0, 3), (1, 3)) == ["", "", ""]
    assert _outcomes(address, (0, 1)) == [""]


def test_whoever_is_missing_is_named_to_all_who_came(address):
    first, other = _outcomes(address, (0, 4), (2, 4), seconds=1.0)
    assert first == other
    assert first.startswith(f"Processes 1, 3 of 4 did not come to {address} within 1 s; here are 0")
    assert "2 (" in first and "--num_processes" in first and "--arrival_seconds" in first


def test_two_processes_of_one_id_refuse_in_all(address):
    for error in _outcomes(address, (0, 3), (1, 3), (1, 3)):
        assert error.startswith("Two processes have the id 1: ") and "from 0 to 2" in error


def test_processes_told_different_numbers_refuse_in_all(address):
    for error in _outcomes(address, (0, 2), (1, 3)):
        assert "was told that there are 3 processes, and process 0" in error
        assert "Give all of them the same --num_processes" in error


def test_a_port_that_is_taken_is_told_by_process_0(address):
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        (error,) = _outcomes(address, (0, 2))
    assert f"cannot listen at {address}: another program or run has the port" in error
    assert "--coordinator_address" in error


def _answers(listener, text):
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(text)


@pytest.mark.parametrize("text", [b"HTTP/1.1 400 Bad Request\r\n", b"\0\0\x12\4", b""])
def test_an_address_where_something_else_listens_is_not_process_0(address, text):
    listener = socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])))
    threading.Thread(target=_answers, args=(listener, text), daemon=True).start()
    (error,) = _outcomes(address, (1, 2), seconds=1.0)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    assert "is another program, or a run that has begun already" in error
    assert "Start process 0 on that host" in error


@pytest.mark.parametrize(
    ("host", "reason"),
    [("127.0.0.1", "connection refused"), ("no-such-host.invalid", "(name|resolution|address)")],
)
def test_an_address_that_nobody_answers_at_is_told_with_the_reason(address, host, reason):
    place = f"{host}:{address.rpartition(':')[2]}"
    (error,) = _outcomes(place, (1, 2), seconds=1.0)
    assert error.startswith(f"Process 1 has not found process 0 at {place} within 1 s: ")
    assert re.search(reason, error)
    assert "--coordinator_address" in error and "--arrival_seconds" in error


def _come(address, text):
    """Connects to process 0 and says `text`; returns the connection."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
            connection.sendall(text)
            return connection
        time.sleep(0.05)
    raise AssertionError("nobody listens")


def test_process_0_hears_its_own_alone_and_one_that_was_killed_may_come_again(address):
    told = json.dumps({"index": 1, "count": 3, "name": "killed"}).encode() + b"\n"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(_outcomes, address, (0, 3))
        _come(address, b"GET / HTTP/1.1\r\n\r\n").close()  # a health check
        _come(address, told.replace(b"3", b"9")).close()  # without the greeting
        _come(address, b"codet5p " + told).close()
        assert _outcomes(address, (1, 3), (2, 3)) == ["", ""]
        assert first.result() == [""]
