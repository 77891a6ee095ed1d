"""Tests of codet5p_jax.training.multihost that need one process; others are in end_to_end/."""

import concurrent.futures
import threading

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from codet5p_jax.training.cluster import Cluster, MultihostError, find_cluster
from codet5p_jax.training.multihost import ALONE, Processes, local_rows
from codet5p_jax.training.partitioning import Partitioner
from codet5p_jax.training.preemption import StopRequest
from codet5p_jax.training.process_watch import AgreedStop

ADDRESS = "10.0.0.1:1234"


def test_flags_win_over_the_environment_and_nothing_means_one_process():
    environment = {
        "JAX_COORDINATOR_ADDRESS": ADDRESS,
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "1",
    }
    expected = Cluster(coordinator_address=ADDRESS, num_processes=2, process_id=0)
    assert find_cluster(environment, process_id=0) == expected
    assert find_cluster({}) is None


@pytest.mark.parametrize(
    "environment", [{"SLURM_STEP_NUM_TASKS": "4"}, {"TPU_WORKER_HOSTNAMES": "host-a,host-b"}]
)
def test_a_cluster_that_the_environment_shows_is_left_to_jax(environment):
    assert find_cluster(environment) == find_cluster({}, multihost=True) == Cluster()


def test_a_half_told_cluster_says_what_is_missing():
    with pytest.raises(MultihostError, match=r"num_processes is given, but not coord.*--multihost"):
        find_cluster({}, num_processes=2)
    with pytest.raises(MultihostError, match=r"JAX_PROCESS_ID is 'two'.* a number from 0"):
        find_cluster({"JAX_PROCESS_ID": "two"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_processes": 0}, r"num_processes is 0; give --num_processes=1 or more"),
        ({"process_id": 2}, r"process_id is 2 of 2 processes, which are 0 to 1; .* --process_id"),
        ({"process_id": -1}, r"process_id is -1 of 2 processes"),
        ({"coordinator_address": "10.0.0.1"}, r"is '10\.0\.0\.1'; give .*=HOST:PORT with a port"),
        ({"coordinator_address": "host:http"}, r"is 'host:http'; give .* such as 10\.0\.0\.1:1234"),
        ({"coordinator_address": "host:70000"}, r"a port from 1 to 65535 that is free"),
        ({"silence_seconds": 1.0}, r"silence_seconds is 1, .*give --silence_seconds=3 or more"),
        ({"arrival_seconds": 0.0}, r"arrival_seconds is 0; give --arrival_seconds as long as"),
    ],
)
def test_a_cluster_that_no_run_can_have_is_refused_with_the_flag_to_change(values, message):
    good = {"coordinator_address": ADDRESS, "num_processes": 2, "process_id": 1}
    with pytest.raises(MultihostError, match=message):
        find_cluster({}, **{**good, **values})


def test_rows_of_the_only_process_are_all_rows():
    mesh = Partitioner(devices=jax.devices()[:4]).mesh
    rows = local_rows(mesh, PartitionSpec("data"), 8)
    np.testing.assert_array_equal(rows, np.arange(8))


def test_an_agreed_stop_is_due_when_it_is_asked_more_often_than_the_limit():
    stop = AgreedStop(StopRequest())
    assert not stop.due() and stop.exit_code == 0
    stop.settle(2, 15)
    assert [stop.due(), stop.due(), stop.due()] == [False, True, True]
    assert stop.exit_code == 143


def test_an_error_on_the_first_process_is_raised_as_it_is():
    def fails():
        raise OSError("no more disk")

    with pytest.raises(OSError, match="no more disk"):
        ALONE.on_first(fails)


class _Thread(Processes):
    """One of two processes that are threads of this one; they gather once."""

    count = 2

    def __init__(self, index, texts, barrier):
        self.index, self._texts, self._barrier = index, texts, barrier

    def gather(self, text):
        self._texts[self.index] = text
        self._barrier.wait(timeout=60)
        return list(self._texts)

    def shared_stop(self, request):
        return request


def test_an_error_on_the_first_process_stops_the_others_with_its_message():
    def fails():
        raise OSError("no more disk")

    texts, barrier = ["", ""], threading.Barrier(2)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = (
            pool.submit(_Thread(index, texts, barrier).on_first, fails) for index in (0, 1)
        )
    assert isinstance(first.exception(), OSError)
    assert isinstance(second.exception(), MultihostError)
    assert str(second.exception()) == "Process 0 stopped: no more disk"
