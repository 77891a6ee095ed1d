"""Tests of codet5p_jax.cli.stations; what is run again is tested with its jobs."""

import os
import signal
import sys
import threading

from codet5p_jax.cli.stations import STOPPED, run_to_end

ASLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_the_exit_code_is_that_of_the_command():
    assert run_to_end([sys.executable, "-c", "raise SystemExit(3)"]) == 3


def test_sigterm_is_passed_on_to_the_command_and_ends_the_job_alone():
    before = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(1.0, os.kill, [os.getpid(), signal.SIGTERM])
    timer.start()
    code = run_to_end(ASLEEP)
    timer.join()
    assert code == 143 and code in STOPPED
    assert signal.getsignal(signal.SIGTERM) is before
