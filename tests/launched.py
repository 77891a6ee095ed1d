"""Commands started as several processes by launch/multihost_local.sh, for tests."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LAUNCHER = ROOT / "launch" / "multihost_local.sh"
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


def wait_until(condition, *, within):
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.05)
