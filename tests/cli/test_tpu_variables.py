"""Tests of codet5p_jax.cli.tpu_variables."""

import pytest

from codet5p_jax.cli.tpu_variables import misread


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("TPU_CHIPS_PER_HOST_BOUNDS", "2,2", "three numbers such as 2,2,1"),
        ("TPU_HOST_BOUNDS", "2x2x1", "three numbers such as 2,2,1"),
        ("TPU_CHIPS_PER_PROCESS_BOUNDS", "1,0,1", "three numbers such as 2,2,1"),
        ("TPU_PROCESS_BOUNDS", "2,2,one", "three numbers such as 2,2,1"),
        ("TPU_VISIBLE_CHIPS", "all", "chips such as 0,1"),
        ("TPU_VISIBLE_DEVICES", "0;1", "chips such as 0,1"),
        ("TPU_PROCESS_PORT", "http", "a port such as 8476"),
        ("TPU_PROCESS_ADDRESSES", "localhost", "HOST:PORT,HOST:PORT"),
        ("TPU_TOPOLOGY", "16", "a shape such as 4x4 or 2x2x2"),
        ("TPU_WORKER_ID", "first", "a number from 0"),
    ],
)
def test_a_value_that_libtpu_cannot_read_is_a_problem(name, value, expected):
    (found,) = misread({name: value})
    assert (found.severity, found.subject, found.mend) == ("problem", name, f"unset {name}")
    assert found.what == f"is {value!r}; give {expected}"


@pytest.mark.parametrize("value", ["v9-16", "v5e", "v4-0", "h100-8"])
def test_an_accelerator_that_is_not_known_is_a_warning(value):
    (found,) = misread({"TPU_ACCELERATOR_TYPE": value})
    assert (found.severity, found.mend) == ("warning", "unset TPU_ACCELERATOR_TYPE")
    assert f"is {value!r}; known are v2, v3" in found.what and "v5litepod-16" in found.what


@pytest.mark.parametrize("kind", ["v2-8", "v4-32", "v5litepod-16", "v5p-16", "v6e-256", "tpu7x-8"])
def test_what_machines_set_is_no_finding(kind):
    variables = {
        "TPU_ACCELERATOR_TYPE": kind,
        "TPU_CHIPS_PER_HOST_BOUNDS": "2,2,1",
        "TPU_HOST_BOUNDS": "2,2,8",
        "TPU_PROCESS_ADDRESSES": "localhost:8476,10.0.0.2:8476",
        "TPU_PROCESS_PORT": "8476",
        "TPU_TOPOLOGY": "4x4x8",
        "TPU_VISIBLE_CHIPS": "0,1",
        "TPU_WORKER_ID": "0",
    }
    assert misread(variables) == misread(dict.fromkeys(variables, "")) == []


@pytest.mark.parametrize(
    "worker, expected",
    [
        ("", []),
        ("1", []),
        ("2", ["is '2', and TPU_WORKER_HOSTNAMES names 2: give 0 to 1"]),
        ("x", ["is 'x'; give a number from 0"]),
    ],
)
def test_a_worker_is_one_of_the_hosts(worker, expected):
    found = misread({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": worker})
    assert [finding.what for finding in found] == expected
