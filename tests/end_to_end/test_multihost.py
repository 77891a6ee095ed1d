"""Several processes on this machine train as one: the same losses, files, stops and ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from codet5p_jax.training.checkpoints import load_params, newest_step
from codet5p_jax.training.process_watch import LOST_PROCESS_EXIT_CODE
from tests.launched import ENVIRONMENT, wait_until
from tests.one_of_several import SETTING, make_run

STEPS = 6


def _train(launch, model_dir, *flags, count=2, **environment):
    program = (sys.executable, "-m", "tests.one_of_several", model_dir)
    return launch(count, *program, *flags, **environment)


def _metrics(model_dir):
    return [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]


def _steps(model_dir):
    if not (model_dir / "metrics.jsonl").exists():
        return []
    return [line["step"] for line in _metrics(model_dir) if line["split"] == "train"]


def _losses(model_dir):
    return {(line["step"], line["split"]): line["denoising/loss"] for line in _metrics(model_dir)}


def _numbers(line):
    return {
        k: v for k, v in line.items() if k not in ("time", "phase") and not k.startswith("timing/")
    }


def _assert_same_training(one, other, *, rtol):
    for a, b in zip(_metrics(one), _metrics(other), strict=True):
        a, b = _numbers(a), _numbers(b)
        assert a.keys() == b.keys() and a["split"] == b["split"]
        for name in a.keys() - {"split"}:
            np.testing.assert_allclose(b[name], a[name], rtol=rtol, atol=1e-7, err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run in this process, on two devices."""
    model_dir = tmp_path_factory.mktemp("alone")
    assert make_run(model_dir, steps=STEPS, devices=jax.devices()[:2]).train() == 0
    return model_dir


@pytest.mark.slow
def test_two_processes_train_to_the_losses_of_one_and_write_each_file_once(launch, tmp_path, alone):
    run = _train(launch, tmp_path)
    assert run.end(within=120) == 0, run.output
    assert run.output.count("started 2") == 1
    assert "[1] training" not in run.output and "[0] training" in run.output
    _assert_same_training(alone, tmp_path, rtol=1e-6)  # sums over devices in another order
    boards = [len(list((tmp_path / split).glob("events.*"))) for split in ("train", "eval")]
    assert boards == [1, 1]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        load_params(alone),
        load_params(tmp_path),
    )
    # ... and one process goes on where two ended, with the rows of both.
    assert make_run(tmp_path, steps=STEPS + 1, devices=jax.devices()[:2]).train() == 0
    assert make_run(alone, steps=STEPS + 1, devices=jax.devices()[:2]).train() == 0
    _assert_same_training(alone, tmp_path, rtol=1e-5)


@pytest.mark.slow
def test_a_queue_and_negatives_are_those_of_one_process(launch, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert make_run(one, pairs=True, steps=STEPS, devices=jax.devices()[:2]).train() == 0
    run = _train(launch, two, "--pairs")
    assert run.end(within=250) == 0, run.output
    _assert_same_training(one, two, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_with_its_name_and_the_relaunch_resumes(
    launch, tmp_path, victim
):
    flags = ("--steps=40", "--pause=0.3", "--silence_seconds=8")
    run = _train(launch, tmp_path, *flags)
    wait_until(lambda: _steps(tmp_path)[-1:] >= [4], within=120)  # lines come one step late
    killed_at = time.monotonic()
    os.kill(run.children()[victim], signal.SIGKILL)
    code = run.end(within=60)
    assert time.monotonic() - killed_at < 60
    assert code == 128 + signal.SIGKILL, run.output  # that of the first to fail
    other = 1 - victim
    named = rf"\[{other}\] codet5p: error: Process {victim} \([\w.-]+, pid \d+\)"
    message = rf"{named}.* (is gone|no sign of life for 8 s).*\n.* run continues from its newest"
    assert re.search(message, run.output), run.output
    assert f"process {victim} (pid" in run.output and "ended by signal 9" in run.output
    step = newest_step(tmp_path)
    steps = step + 2
    again = _train(launch, tmp_path, f"--steps={steps}")
    assert again.end(within=120) == 0, again.output
    assert f"Resuming from step {step} of" in again.output
    assert _steps(tmp_path) == list(range(1, steps + 1))


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_one_step_and_all_go_on(launch, tmp_path, alone):
    run = _train(launch, tmp_path, "--steps=200", "--pause=0.2")
    wait_until(lambda: (newest_step(tmp_path) or 0) >= 3, within=120)
    os.kill(run.children()[1], signal.SIGTERM)
    assert run.end(within=60) == 143, run.output
    assert re.search(r"\[0\] Process 1 was asked to stop", run.output), run.output
    stopped = newest_step(tmp_path)
    assert _steps(tmp_path)[-1] == stopped < 200
    again = _train(launch, tmp_path, f"--steps={stopped + 1}", count=1, JAX_NUM_CPU_DEVICES="2")
    assert again.end(within=120) == 0, again.output
    losses, expected = _losses(tmp_path), _losses(alone)
    common = losses.keys() & expected.keys()  # it may have stopped before step STEPS, or behind
    assert len(common) >= 3
    for line in common:
        np.testing.assert_allclose(losses[line], expected[line], rtol=1e-6)


_FAILS_IN_ONE = """
import os
from codet5p_jax.training.cluster import find_cluster
from codet5p_jax.training.multihost import join
with join(find_cluster(os.environ)) as processes:
    if processes.index == int(os.environ["VICTIM"]):
        raise ValueError("no more disk")
    processes.gather("a barrier that not all come to")
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_an_error_in_one_process_is_told_by_the_others(launch, victim):
    run = launch(2, sys.executable, "-c", _FAILS_IN_ONE, VICTIM=str(victim))
    assert run.end(within=60) == 1, run.output  # Python's code for an error that nobody caught
    assert f"[{victim}] ValueError: no more disk" in run.output
    told = (
        rf"\[{1 - victim}\] codet5p: error: Process {victim} .* with an error: ValueError: no more"
    )
    assert re.search(told, run.output), run.output
    assert f"exited with code {LOST_PROCESS_EXIT_CODE}" in run.output


def test_processes_of_different_configurations_refuse_to_start(launch, tmp_path):
    program = (
        f"exec {sys.executable} -m tests.one_of_several {tmp_path / 'm'} --setting=$JAX_PROCESS_ID"
    )
    run = launch(2, "bash", "-c", program)
    assert run.end(within=60) == 1
    for index in (0, 1):
        assert re.search(
            rf"\[{index}\] .*MultihostError: Process 1 of 2 and process 0 have different",
            run.output,
        ), run.output
        assert f"[{index}]   {SETTING}: 0 in process 0, 1 in process 1" in run.output
    assert not (tmp_path / "m").exists()


_MEETS = """
import os, sys
from codet5p_jax.training.cluster import find_cluster
from codet5p_jax.training.multihost import join
with join(find_cluster(os.environ, arrival_seconds=float(sys.argv[1]))) as processes:
    print("together", processes.count, flush=True)
    sys.stdin.readline()
    processes.gather("to the end")
"""


@pytest.mark.slow
def test_a_late_process_with_an_id_that_is_taken_does_not_disturb_the_run():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

    def start(index, seconds):
        place = {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(index),
        }
        return subprocess.Popen(
            [sys.executable, "-c", _MEETS, str(seconds)],
            env={**ENVIRONMENT, **place},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    run = [start(index, 60) for index in (0, 1)]
    try:
        assert [process.stdout.readline() for process in run] == ["together 2\n"] * 2
        late = start(1, 1)
        said = late.communicate(timeout=60)[1]
        assert late.returncode == 1 and "a run that has begun already" in said
        for process in run:
            process.stdin.close()  # go on
        assert [process.wait(timeout=60) for process in run] == [0, 0]
    finally:
        for process in run:
            process.kill()
            process.wait()


def test_multihost_where_nothing_tells_of_others_says_what_to_give():
    program = _MEETS.replace("os.environ,", "os.environ, multihost=True,")
    done = subprocess.run(
        [sys.executable, "-c", program, "5"],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    message = r"MultihostError: JAX finds no TPU, Slurm or MPI here .*--coordinator_address=HOST"
    assert re.search(message, done.stderr), done.stderr


@pytest.mark.slow  # a network file system has ten seconds to show a file
def test_directories_that_are_not_shared_are_refused_before_training(launch, tmp_path):
    text = f"exec {sys.executable} -m tests.one_of_several {tmp_path}/m$JAX_PROCESS_ID"
    run = launch(2, "bash", "-c", text)
    assert run.end(within=90) == 1
    for index in (0, 1):
        message = rf"\[{index}\] .*What process 0 writes into .* is not there for process 1 \("
        assert re.search(message, run.output), run.output
    assert sorted(path.name for path in (tmp_path / "m0").iterdir()) == ["run.json"]
