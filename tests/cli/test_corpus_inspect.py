"""Tests of codet5p_jax.cli.corpus_inspect."""

import os
import pty
import subprocess
import sys

import pytest

HEADER = "==> "


def _headers(shown):
    return [line.split() for line in shown.splitlines() if line.startswith(HEADER)]


def test_functions_are_printed_whole_with_their_documentation(codet5p, built_corpus):
    code, shown, _ = codet5p("corpus", "inspect", built_corpus, "--language=python", "--n=2")
    assert code == 0 and [header[1] for header in _headers(shown)] == ["python", "python"]
    assert "Returns the [red]area[/red] of circle number" in shown
    assert "    square = radius * radius\n" in shown


def test_files_of_a_split_are_printed_on_request(codet5p, built_corpus):
    _, shown, _ = codet5p("corpus", "inspect", built_corpus, "--dataset=files", "--split=test")
    [header] = _headers(shown)
    assert header[3].endswith(".py") and "MIT" in header


def test_equal_seeds_print_alike_and_others_do_not(codet5p, built_corpus):
    first, again, other = (
        codet5p("corpus", "inspect", built_corpus, f"--seed={seed}")[1] for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--language=pyton", "Did you mean 'python'? Known: php, python."),
        ("--split=tset", "Did you mean 'test'? Known: train, validation, test."),
        ("--dataset=pairs", "Known: code_files, code_functions."),
        ("--n=0", "--n is 0; it must be 1 or more."),
    ],
)
def test_a_wrong_name_is_one_line_that_tells_the_known_ones(codet5p, built_corpus, flag, message):
    code, _, error = codet5p("corpus", "inspect", built_corpus, flag)
    assert code == 2 and message in error


def test_a_language_that_the_split_lacks_says_where_it_is(codet5p, built_corpus):
    code, _, error = codet5p(
        "corpus", "inspect", built_corpus, "--language=php", "--split=test", "--dataset=functions"
    )
    assert code == 2
    assert "The split 'test' holds no functions in php; there are 6 in train, 0 in va" in error


def test_a_reader_that_leaves_is_no_error(built_corpus):
    program = "from codet5p_jax.cli.main import main; main()"
    words = ["corpus", "inspect", str(built_corpus), "--n=100"]
    left, right = os.pipe()
    os.close(left)
    done = subprocess.run(
        [sys.executable, "-c", program, *words], stdout=right, stderr=subprocess.PIPE, text=True
    )
    os.close(right)
    assert (done.returncode, done.stderr) == (141, "")


def test_records_are_coloured_on_a_terminal(built_corpus):
    program = "from codet5p_jax.cli.main import main; main()"
    words = ["corpus", "inspect", str(built_corpus), "--language=php", "--n=1"]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    done = subprocess.run([sys.executable, "-c", program, *words], stdout=theirs, env=environment)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0 and "\x1b[94" in shown  # the keyword `function`
