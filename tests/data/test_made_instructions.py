"""Tests of codet5p_jax.data.made_instructions."""

import collections
import dataclasses
import json

import pytest

from codet5p_jax.data.instruction import read_instructions
from codet5p_jax.data.made_instructions import (
    EXPLAIN,
    Function,
    made_instructions,
    read_functions,
    what_it_does,
    write_instructions,
)

CODE = """\
def mean{i}(values):
    total = 0
    for v in values:
        total += v
    return total"""
METHOD = CODE.replace("(values)", "(self)").replace("in values", "in self.values")


def _function(i=0, **changes):
    values = {
        "name": f"mean{i}",
        "code": CODE.format(i=i),
        "docstring": f"Return the mean of group {i}. Empty groups raise.",
        "language": "python",
        "license": "MIT",
        "repository": "averages",
        "path": "src/mean.py",
        "id": f"{i:016x}",
    }
    return Function(**{**values, **changes})


def test_a_function_that_stands_alone_is_asked_for():
    [record] = made_instructions([_function(3)])
    assert "`mean3`" in record["instruction"] and "Python" in record["instruction"]
    assert "that returns the mean of group 3." in record["instruction"]
    assert record == {
        "instruction": record["instruction"],
        "input": "",
        "output": CODE.format(i=3),
        "made_from": "documentation",
        "language": "python",
        "license": "MIT",
        "origin": "averages/src/mean.py: mean3",
    }


def test_a_function_of_an_object_is_to_be_explained():
    [record] = made_instructions([_function(code=METHOD.format(i=0))])
    assert record["instruction"] in {text.format(language="Python") for text in EXPLAIN}
    assert record["input"] == METHOD.format(i=0)
    assert record["output"] == "It returns the mean of group 0."


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("ruby", "def mean0\n  a = 1\n  b = 2\n  c = 3\n  @values\nend"),
        ("php", "function mean0()\n{\n    $a = 1;\n    $b = 2;\n    return $this->a;\n}"),
        ("go", "func (g *Group) mean0() int {\n\ta := 1\n\tb := 2\n\tc := 3\n\treturn a\n}"),
        ("cpp", "int mean0() {\n  int a = 1;\n  int b = 2;\n  int c = 3;\n  return sum_ / a;\n}"),
        ("java", "int mean0() {\n  int a = 1;\n  int b = 2;\n  int c = 3;\n  return this.sum;\n}"),
    ],
)
def test_the_object_shows_in_every_language(language, code):
    [record] = made_instructions([_function(code=code, language=language)])
    assert record["input"] == code
    freed = code.replace("@", "").replace("$this->a", "$a").replace("(g *Group) ", "")
    freed = freed.replace("sum_", "sum").replace("this.", "")
    [record] = made_instructions([_function(code=freed, language=language)])
    assert record["output"] == freed


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("mean0 returns the mean of all values.", "returns the mean of all values"),  # Go's way
        ("Return\n    the mean of\n    the values.", "returns the mean of the values"),
        ("Returns if a value is missing.", "returns whether a value is missing"),
        ("Return the mean of +values+ or zero.", "returns the mean of `values` or zero"),
        ("Return the mean of ``values`` or zero.", "returns the mean of `values` or zero"),
        ("Return the mean of the values", "returns the mean of the values"),
    ],
)
def test_what_a_function_does_is_its_first_sentence(docstring, expected):
    assert what_it_does(_function(docstring=docstring)) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"docstring": "Return the mean."},  # too short to be asked
        {"docstring": f"Return the mean of {'many ' * 40}values."},
        {"docstring": "Return the mean of the values of this group."},
        {"docstring": "Return the same mean as the function above."},
        {"docstring": "Return the mean of the values, see RFC 1."},
        {"docstring": "Return the mean of the values (of numbers."},
        {"docstring": "Return the mean of the values {@link Group}."},
        {"docstring": "Return the mean of the values in x."},
        {"docstring": "Return the `mean`_ of all of the values."},
        {"docstring": "Return the mean of the values. years days."},
        {"docstring": "The mean of all of the values."},
        {"code": "def mean0(values): return 1"},
        {"code": CODE.format(i=0) + "\n" * 2 + "x = 1\n" * 40},
        {"code": CODE.format(i=0).replace("total = 0", "total = '<SECRET>'")},
        {"code": CODE.format(i=0).replace("total = 0", "total = 0  # TODO")},
        {"code": CODE.format(i=1)},  # a function of another name
        {"code": CODE.format(i=0).replace("mean0", "__init__"), "name": "__init__"},
        {"language": "cobol"},
    ],
)
def test_what_would_make_a_poor_instruction_is_left_out(changes):
    assert what_it_does(_function(**changes)) is None
    assert made_instructions([_function(**changes)]) == []


def test_two_of_three_ask_for_a_function_as_long_as_there_are_both():
    functions = [_function(i) for i in range(20)]
    functions += [_function(i, code=METHOD.format(i=i)) for i in range(20, 30)]
    records = made_instructions(functions, count=30)
    assert [bool(record["input"]) for record in records] == [False, False, True] * 10
    rest = made_instructions(functions[:3] + functions[20:])
    assert [bool(record["input"]) for record in rest[-8:]] == [True] * 8


def test_languages_and_repositories_take_turns():
    functions = [
        _function(i, language=language, repository=repository)
        for i, (language, repository) in enumerate(
            [("python", "large")] * 50 + [("python", "small")] * 5 + [("ruby", "other")] * 10
        )
    ]
    records = made_instructions(functions, count=20)
    assert collections.Counter(r["language"] for r in records) == {"python": 10, "ruby": 10}
    origins = collections.Counter(r["origin"].split("/")[0] for r in records)
    assert origins == {"large": 5, "small": 5, "other": 10}


def test_a_sentence_is_taken_once():
    functions = [_function(i, docstring="Return the mean of all values.") for i in range(5)]
    assert len(made_instructions(functions)) == 1


def test_the_choice_depends_on_functions_and_seed_and_not_on_their_order():
    functions = [_function(i) for i in range(40)]
    first = made_instructions(functions, count=9)
    assert made_instructions(reversed(functions), count=9) == first
    assert made_instructions(functions, count=9, seed=1) != first
    assert made_instructions(functions)[:9] == first


@pytest.mark.parametrize("name", ["made.json", "made.jsonl"])
def test_what_is_written_is_read_as_instructions(name, tmp_path):
    records = made_instructions([_function(i, code=CODE.format(i=i) + " # é") for i in range(3)])
    write_instructions(tmp_path / "new" / name, records)
    read = read_instructions(tmp_path / "new" / name)
    assert read == [{n: r[n] for n in ("instruction", "input", "output")} for r in records]
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]
    lines = (tmp_path / "new" / name).read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if '"license": "MIT"' in line and "é" in line]) == 3


def test_documented_functions_of_a_corpus_are_read(corpus_dir):
    functions = list(read_functions(corpus_dir))
    assert len(functions) > 50 and all(f.docstring and f.license for f in functions)
    records = made_instructions(functions)
    assert len(records) > 5
    assert json.loads(json.dumps(records)) == records


def test_a_folder_without_a_corpus_says_how_to_build_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No code_functions in .*codet5p corpus build"):
        next(read_functions(tmp_path))


def test_records_name_every_field_of_the_function():
    """What is read of a corpus are the fields of the dataset."""
    names = {field.name for field in dataclasses.fields(Function)}
    assert names == {
        *("name", "code", "docstring", "language", "license", "repository", "path", "id")
    }
