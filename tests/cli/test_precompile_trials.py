"""Tests of codet5p_jax.cli.precompile_trials."""

import contextlib
import importlib.util
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from codet5p_jax.cli.precompile_trials import (
    Outcome,
    compile_in_child,
    compile_until_one_does_not_fit,
    first_that_fits,
)

GIB = 2**30


def figures(*, gib=10.0, seconds=0.5, there=16.0, fits=True):
    """Figures of a phase, as far as trials read them."""
    about = {"fits": fits, "hbm_bytes": int(gib * GIB), "usable_hbm_bytes": int(there * GIB)}
    if not fits:
        return about
    return {**about, "spare": 1 - gib / there, "step_seconds": seconds, "limit": "HBM"}


def _outcomes(fitting, failing=()):
    """Returns a function that tries numbers, and the list of those it was given."""
    asked = []

    def attempt(number):
        asked.append(number)
        return Outcome(fits=number >= fitting, failure="no" if number in failing else "")

    return attempt, asked


@pytest.mark.parametrize("fitting", range(1, 10))
def test_the_first_that_fits_is_found_by_few_tries(fitting):
    attempt, asked = _outcomes(fitting)
    assert first_that_fits(range(1, 9), attempt) == (fitting if fitting < 9 else None)
    assert len(asked) <= 4 and len(set(asked)) == len(asked)


def test_what_fails_says_nothing_of_its_neighbours():
    attempt, asked = _outcomes(3, failing={3, 4})
    assert first_that_fits([1, 2, 3, 4, 5, 6], attempt) == 5
    assert asked.count(3) == 1


def test_of_no_options_none_fits():
    assert first_that_fits([], lambda option: Outcome(fits=True)) is None


def test_phases_are_compiled_up_to_the_first_that_does_not_fit():
    sizes = {"all": 10.0, "denoising": 15.0, "last": 1.0}
    compiled = []

    def compile_phase(name):
        compiled.append(name)
        return Outcome(phases=[figures(gib=sizes[name])], fits=True, seconds=2.0)

    outcome = compile_until_one_does_not_fit(
        ["all", "denoising", "last"], compile_phase=compile_phase, spare=0.1
    )
    assert compiled == ["all", "denoising"]  # 15 of 16 leave less than a tenth
    assert not outcome.fits and outcome.seconds == 4.0
    assert "15.00 GiB, 6% spare: too little" in str(outcome)
    enough = compile_until_one_does_not_fit([*sizes], compile_phase=compile_phase, spare=0.05)
    assert enough.fits and len(enough.phases) == 3


def test_an_outcome_costs_the_time_of_its_phases_and_their_largest_memory():
    phases = [figures(gib=4.0, seconds=0.5), figures(gib=9.0, seconds=0.25)]
    assert Outcome(phases=phases, fits=True).cost == (0.75, 9 * GIB)


@pytest.mark.parametrize(
    "outcome, line",
    [
        (
            Outcome(phases=[figures(gib=8.0)], fits=True, seconds=61.2),
            "8.00 GiB, 50% spare, step of 500 ms or more (HBM) (61 s)",
        ),
        (
            Outcome(phases=[figures(gib=8.0), figures(gib=4.0)], fits=True, seconds=9.0),
            "8.00 GiB, 50% spare, step of 500 ms or more (HBM) (9 s)",
        ),
        (
            Outcome(phases=[figures(gib=20.5, fits=False)], seconds=9.0),
            "does not fit, needs 20.50 GiB of 16.00 GiB (9 s)",
        ),
        (Outcome(failure="no such axis"), "failed: no such axis"),
    ],
)
def test_an_outcome_is_one_line(outcome, line):
    assert str(outcome) == line


@pytest.mark.slow
def test_what_a_process_of_its_own_cannot_do_is_its_failure():
    outcome = compile_in_child(["--gin_file=recipes/stage1.gin", "--topology=v5e:4x4"])
    assert outcome.failure.startswith("No gin file 'recipes/stage1.gin'. Did you mean")
    assert not outcome.fits and outcome.phases == ()


@pytest.mark.tpu
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
def test_a_process_of_its_own_returns_the_figures():
    words = ["--gin_file=recipes/stage2_220m.gin", "--gin_file=runs/toy.gin"]
    outcome = compile_in_child([*words, "--topology=v5e:2x2"])
    assert outcome.fits, outcome
    assert [phase["phase"] for phase in outcome.phases] == ["bimodal"]


def test_sigterm_leaves_no_compile_behind():
    program = (
        "from codet5p_jax.cli.precompile_trials import compile_in_child;"
        "compile_in_child(['--gin_file=recipes/stage1_220m.gin', '--topology=v5e:4x4'])"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 120
    while (compiling := _compiling(parent.pid)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(timeout=30) == 128 + signal.SIGTERM
    assert compiling and not (compiling / "exe").exists()


def _compiling(parent):
    """The child that compiles; what libraries start at their import are children too."""
    children = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in (pathlib.Path("/proc", number) for number in children):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if b"\0precompile\0" in (child / "cmdline").read_bytes():
                return child
    return None
