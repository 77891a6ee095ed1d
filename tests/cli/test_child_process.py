"""Tests of codet5p_jax.cli.child_process."""

from codet5p_jax.cli.child_process import ChildProcess


def _ended(program, **arguments):
    child = ChildProcess(program, **{"timeout": 30.0, **arguments})
    child.wait()
    return child


def test_what_a_program_prints_and_its_exit_code_are_kept():
    child = _ended(
        "import os, sys; print(os.environ['A']); sys.exit('bad')", environment={"A": "1"}
    )
    assert (child.stdout, child.stderr, child.returncode) == ("1\n", "bad\n", 1)
    assert not child.stopped


def test_a_program_that_hangs_is_killed_and_what_it_printed_is_kept():
    child = _ended("import time; print('so far', flush=True); time.sleep(60)", timeout=1.5)
    assert child.stopped and child.stdout == "so far\n"


def test_a_program_that_crashes_has_its_signal_as_exit_code():
    assert _ended("import os; os.kill(os.getpid(), 11)").returncode == -11
