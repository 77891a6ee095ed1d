"""Tests of codet5p_jax.cli.main; those of what it says of mistakes stand with each command."""

import os
import subprocess
import sys

import pytest

from codet5p_jax.cli import main

RECIPE = "--gin_file=recipes/stage1_220m.gin"
# Runs a command line that must be refused, and prints which of the large libraries were imported.
PROGRAM = """
import sys
from codet5p_jax.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 2, end.code
print(*sorted({"jax", "tensorflow", "torch"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--nonsense"],
        ["train"],
        ["train", RECIPE, "--num_processes=2"],
        ["precompile", "--nonsense"],
        ["precompile", RECIPE],
        ["precompile", "--topology=v5e:4x4"],
        ["cache", "--out=x"],
        ["tokenizer", "train"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_refused_before_anything_large_is_imported(words):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.startswith("codet5p: error: "), done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["corpus", "show", "c", "--htlm=x"], "'--htlm=x'. Did you mean --html or --help?"),
        (["corpus", "build", "--out=c", "--zzz"], "'--zzz'. See: codet5p corpus build --help"),
        (["corpus"], "required: command. See: codet5p corpus --help"),
    ],
)
def test_a_wrong_flag_of_a_subcommand_is_answered_with_flags_of_that_subcommand(
    words, told, capsys
):
    with pytest.raises(SystemExit):
        main.main(words)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("words", [["ablate", "--base=none", "--out=x"], ["eval"], ["eval_files"]])
def test_a_wrong_command_line_is_refused_before_tensorflow_is_imported(words):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.startswith("codet5p: error: "), done.stderr
    assert "tensorflow" not in done.stdout.split()


def test_a_broken_pipe_other_than_the_standard_output_is_an_error(monkeypatch, capfd):
    def broken(words):
        raise BrokenPipeError("the connection of a worker")

    monkeypatch.setattr(main, "_run", broken)
    with pytest.raises(SystemExit) as stopped:
        main.main(["doctor"])
    assert stopped.value.code == 2
    assert "codet5p: error: the connection of a worker" in capfd.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_a_reader_that_leaves_is_no_error_of_any_command(words):
    left, right = os.pipe()
    os.close(left)
    program = "from codet5p_jax.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words], stdout=right, stderr=subprocess.PIPE, text=True
    )
    os.close(right)
    assert (done.returncode, done.stderr) == (141, "")
