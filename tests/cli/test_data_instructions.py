"""Tests of codet5p_jax.cli.data_instructions."""

import json

import pytest

from codet5p_jax.data.made_instructions import Function
from tests.corpora import codegen_dir, corpus_dir, registry  # noqa: F401

pytestmark = pytest.mark.usefixtures("registry")
READ_FUNCTIONS = "codet5p_jax.data.made_instructions.read_functions"


def _make(codet5p, corpus, out, *more):
    return codet5p("data", "instructions", f"--corpus={corpus}", f"--out={out}", *more)


def test_instructions_are_made_of_a_corpus_and_shown_as_examples(
    codet5p,
    corpus_dir,  # noqa: F811
    codegen_dir,  # noqa: F811
    tmp_path,
):
    out = tmp_path / "made.json"
    code, printed, error = _make(codet5p, corpus_dir, out, "--count=20")
    assert code == 0, error
    records = json.loads(out.read_text())
    assert f"{len(records)} instructions made of" in printed and str(out) in printed
    assert f"Licences: PSF-2.0 {len(records)}" in printed
    assert 5 < len(records) <= 20
    assert {record["made_from"] for record in records} == {"documentation"}
    code, shown, error = codet5p(
        *("data", "preview", "--task=instruction_made", "--n=2", f"--tokenizer_dir={codegen_dir}"),
        f"--instructions=made={out}",
    )
    assert code == 0, error
    assert shown.count("targets with loss, ") == 2


def test_equal_seeds_make_the_same_file(codet5p, corpus_dir, tmp_path):  # noqa: F811
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        _make(codet5p, corpus_dir, tmp_path / f"{name}.jsonl", "--count=9", f"--seed={seed}")
    first, again, other = ((tmp_path / f"{name}.jsonl").read_bytes() for name in "abc")
    assert first == again != other and first.count(b"\n") == 9


@pytest.mark.parametrize(
    ("count", "words"),
    [
        ("--count=3", "3 were asked for; the split gives 1 and no more. None of them falls into"),
        ("--count=3", "on which tuning is evaluated: give a larger corpus."),
        ("--count=1", "\nNone of them falls into the 5% held out for validation, "),
        ("--count=1", "on which tuning is evaluated: give a larger --count."),
    ],
)
def test_too_few_instructions_are_told(codet5p, tmp_path, monkeypatch, count, words):
    mean = Function(
        name="mean",
        code="def mean(values):\n    total = 0\n    for value in values:\n"
        "        total += value\n    return total / len(values)",
        docstring="Return the mean of the values.",
        language="python",
        license="MIT",
        repository="means",
        path="mean.py",
        id="0",
    )
    monkeypatch.setattr(READ_FUNCTIONS, lambda *_, **__: iter([mean]))
    code, printed, error = _make(codet5p, tmp_path, tmp_path / "made.json", count)
    assert code == 0 and words in printed, error


def test_a_file_that_is_there_is_not_overwritten(codet5p, tmp_path):
    out = tmp_path / "made.json"
    out.write_text("mine")
    code, _, error = _make(codet5p, tmp_path, out)
    assert code == 2 and f"--out={out} is there already. Remove it, or name another." in error
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count=0"], "--count is 0; it must be 1 or more"),
        (["--out=made.csv"], "--out=made.csv ends with neither .json nor .jsonl"),
        (["--split=dev"], "--split is 'dev'; it is train, validation or test"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_code_2(codet5p, tmp_path, words, message):
    code, _, error = _make(codet5p, tmp_path, tmp_path / "made.json", *words)
    assert code == 2 and message in error


def test_a_corpus_without_a_sentence_that_fits_is_an_error(codet5p, tmp_path, monkeypatch):
    monkeypatch.setattr(READ_FUNCTIONS, lambda *_, **__: iter(()))
    code, _, error = _make(codet5p, tmp_path, tmp_path / "made.json")
    assert code == 2 and "None of the 0 documented functions in the split 'train'" in error
    assert not (tmp_path / "made.json").exists()


def test_a_folder_without_a_corpus_is_an_error(codet5p, tmp_path):
    code, _, error = _make(codet5p, tmp_path, tmp_path / "made.json")
    assert code == 2 and "No code_functions in" in error
