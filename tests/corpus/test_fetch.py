"""Tests of codet5p_jax.corpus.fetch."""

import time

from codet5p_jax.corpus.fetch import (
    Fetched,
    fetch_one_by_one,
    fetch_packages,
    last_error,
    run_client,
)
from codet5p_jax.corpus.recipes import Package

A = Package(name="a", ecosystem="pip")
B = Package(name="b", ecosystem="npm")
C = Package(name="c", ecosystem="apt")


def _client(packages, directory, deadline, on_done):
    for _ in packages:
        on_done()
    return [Fetched(package=p, version="1", archives=(str(directory / p.name),)) for p in packages]


def test_every_package_has_a_result_in_the_order_asked(tmp_path):
    fetched = fetch_packages([C, B, A], tmp_path, clients={"pip": _client, "npm": _client})
    assert [f.package for f in fetched] == [C, B, A]
    assert fetched[0].reason == "no client fetches it"
    assert fetched[1].archives == (str(tmp_path / "npm" / "b"),)


def test_a_client_that_is_missing_fails_or_hangs_is_told_not_raised():
    later = time.monotonic() + 60
    assert run_client(["codet5p-no-such-client"], deadline=later).code == 127
    assert run_client(["false"], deadline=later).code == 1
    late = run_client(["sleep", "60"], deadline=time.monotonic() + 0.1)
    assert late.code == 124 and "ran out of time" in late.errors


def test_the_telling_line_of_a_client_has_no_address():
    messages = (
        "npm error code EAI_AGAIN\n"
        "npm error request to https://mirror.example/a failed, getaddrinfo EAI_AGAIN\n"
        "npm error A complete log of this run can be found in: npm-debug.log\n"
    )
    assert last_error(messages) == "npm error request to failed, getaddrinfo EAI_AGAIN"
    assert last_error("x\nERROR: No such package\n\n") == "ERROR: No such package"
    assert last_error("") == "no message"


def test_what_is_left_at_the_deadline_is_not_tried():
    done = []
    results = fetch_one_by_one(
        [A, B],
        lambda package: Fetched(package=package, version="1"),
        deadline=time.monotonic() - 1,
        on_done=lambda: done.append(1),
    )
    assert [r.reason for r in results] == ["not tried: the time for fetching was spent"] * 2
    assert len(done) == 2
