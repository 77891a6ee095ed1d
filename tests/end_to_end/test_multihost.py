"""Several processes on this machine train as one: the same losses, files, stops and ends."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from codet5p_jax.training.checkpoints import load_params, newest_step
from codet5p_jax.training.process_watch import LOST_PROCESS_EXIT_CODE
from tests.one_of_several import SETTING, make_run

ROOT = pathlib.Path(__file__).parents[2]
LAUNCHER = ROOT / "launch" / "multihost_local.sh"
STEPS = 6
ENVIRONMENT = {
    **os.environ,  # conftest.py's flags for XLA among them
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHON": sys.executable,
}


class Launched:
    """The launcher with its processes; `output` after the end."""

    def __init__(self, popen):
        self._popen = popen
        self.output = ""

    def send(self, number):
        self._popen.send_signal(number)

    def end(self, *, within):
        """Waits; returns the exit code."""
        self.output, _ = self._popen.communicate(timeout=within)
        return self._popen.returncode

    def children(self):
        """Process ids by index, as /proc tells them."""
        found = {}
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                variables = (path / "environ").read_bytes().split(b"\0")
                index = [v for v in variables if v.startswith(b"JAX_PROCESS_ID=")]
                if parent == self._popen.pid and index:
                    found[int(index[0].partition(b"=")[2])] = int(path.name)
        return found


@pytest.fixture
def launch():
    """Returns a function that starts processes; what is left of them is ended by the test's end."""
    launched = []

    def start(count, *words, **environment):
        popen = subprocess.Popen(
            [LAUNCHER, str(count), "--", *map(str, words)],
            cwd=ROOT,
            env={**ENVIRONMENT, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        launched.append(popen)
        return Launched(popen)

    yield start
    for popen in launched:
        with contextlib.suppress(ProcessLookupError):  # its whole session: nothing else is in it
            os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()


def _train(launch, model_dir, *flags, count=2, **environment):
    program = (sys.executable, "-m", "tests.one_of_several", model_dir)
    return launch(count, *program, *flags, **environment)


def _metrics(model_dir):
    return [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]


def _steps(model_dir):
    if not (model_dir / "metrics.jsonl").exists():
        return []
    return [line["step"] for line in _metrics(model_dir) if line["split"] == "train"]


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


def _wait_until(condition, *, within):
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.05)


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
    _wait_until(lambda: _steps(tmp_path)[-1:] >= [4], within=120)  # lines come one step late
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
    _wait_until(lambda: (newest_step(tmp_path) or 0) >= 3, within=120)
    os.kill(run.children()[1], signal.SIGTERM)
    assert run.end(within=60) == 143, run.output
    assert re.search(r"\[0\] Process 1 was asked to stop", run.output), run.output
    stopped = newest_step(tmp_path)
    assert _steps(tmp_path)[-1] == stopped < 200
    again = _train(launch, tmp_path, f"--steps={stopped + 1}", count=1, JAX_NUM_CPU_DEVICES="2")
    assert again.end(within=120) == 0, again.output
    shared = [m for m in _metrics(tmp_path) if m["step"] <= STEPS]
    for a, b in zip(_metrics(alone), shared, strict=False):
        np.testing.assert_allclose(b["denoising/loss"], a["denoising/loss"], rtol=1e-6)


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
