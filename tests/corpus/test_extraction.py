"""Tests of codet5p_jax.corpus.extraction."""

import dataclasses
import json

import pytest

from codet5p_jax.corpus.decontamination import EvaluationGrams, write_evaluation_grams
from codet5p_jax.corpus.extraction import extract_file, extract_source
from codet5p_jax.corpus.filters import Filters, FunctionLines, TokenCount
from codet5p_jax.corpus.records import SourceFile
from codet5p_jax.corpus.sources import Source
from codet5p_jax.corpus.tfrecords import decode_example

CODE = '''
def area(radius):
    """Returns the area of a circle."""
    return 3 * radius * radius


def noted(value):
    """Too short."""
    total = value
    return total


def short(): pass
'''
FILTERS = Filters(
    whole_files=(TokenCount(minimum=1, maximum=20),),
    functions=(FunctionLines(minimum=2),),
)


def _file(code=CODE):
    return SourceFile(
        content=code.encode(), repository="r", path="p.py", license="MIT", language="python"
    )


def test_functions_are_kept_and_what_is_left_out_is_counted():
    extracted = extract_file(_file(), split="train", filters=FILTERS)
    records = {r["name"]: r for r in (decode_example(e.example) for e in extracted.functions)}
    assert set(records) == {"area", "noted"}
    assert records["area"]["docstring"] == "Returns the area of a circle."
    assert records["noted"]["docstring"] == ""
    assert dict(extracted.counts) == {
        ("source files", "r"): 1,
        ("source bytes", "r"): len(CODE),
        ("source licence r", "MIT"): 1,
        ("rejections", "file: over 20 tokens"): 1,
        ("rejections", "documentation: under 3 words"): 1,
        ("rejections", "function: under 2 lines"): 1,
    }


def test_a_file_that_is_too_long_for_a_record_gives_its_functions_all_the_same():
    extracted = extract_file(_file(), split="train", filters=FILTERS)
    assert not extracted.files and len(extracted.functions) == 2


def test_a_whole_file_is_a_record():
    (entry,) = extract_file(_file("x = 1\n"), split="test", filters=FILTERS).files
    assert decode_example(entry.example) == {
        "code": "x = 1\n",
        "language": "python",
        "license": "MIT",
        "repository": "r",
        "path": "p.py",
    }
    assert entry.split == "test"


def test_without_a_split_a_file_goes_by_the_hash_of_its_path():
    splits = {
        extract_file(
            SourceFile(
                content=b"x = 1\n", repository="r", path=f"{i}", license="MIT", language="python"
            ),
            split=None,
            filters=FILTERS,
        )
        .files[0]
        .split
        for i in range(99)
    }
    assert splits == {"train", "validation", "test"}


def test_rejected_files_of_a_source_are_counted(tmp_path):
    (tmp_path / "a.py").write_bytes(b"x = 1\0")
    source = Source(name="r", ecosystem="directory", places=(str(tmp_path),), license="MIT")
    (extracted,) = extract_source(source, filters=FILTERS, licenses=["MIT"])
    assert dict(extracted.counts) == {("rejections", "file: binary"): 1}


def test_secrets_are_replaced_in_the_file_and_in_its_functions_and_counted():
    code = CODE.replace("area of a circle.", "area of a circle. By Jane <jane@roe.org>.")
    code = code.replace("    return 3", f'    key = "gh{"p"}_{"a1B2" * 9}"\n    return 3')
    filters = dataclasses.replace(FILTERS, whole_files=())
    extracted = extract_file(_file(code), split="train", filters=filters)
    records = [decode_example(e.example) for e in (*extracted.files, *extracted.functions)]
    assert len(records) == 3 and extracted.counts["source bytes", "r"] == len(code)
    assert not any(secret in repr(records) for secret in ("jane@", "a1B2"))
    assert records[1]["docstring"] == "Returns the area of a circle. By Jane <<EMAIL>>."
    assert 'key = "<SECRET>"' in records[0]["code"] and 'key = "<SECRET>"' in records[1]["code"]
    assert extracted.counts["scrubbed", "E-mail address"] == 1
    assert extracted.counts["scrubbed", "GitHub Token"] == 1


SOLUTION = """    best = values[0]
    for value in values:
        if score(value, target) > score(best, target):
            best = value
    return best
"""


SHORT = "def closest(values, target):\n    return min(values, key=target.score)"  # 8 and 11 tokens
TEXT = "Returns the one of the values whose score for the target is the highest of all of them."


@pytest.fixture
def evaluation(tmp_path):
    """An evaluation set of a solution, a docstring and a repository."""
    item = {"solution": SOLUTION, "short": SHORT, "repo": "owner/held-out", "text": TEXT}
    (tmp_path / "exam.jsonl").write_text(json.dumps(item))
    write_evaluation_grams([tmp_path / "exam.jsonl"], tmp_path / "grams")
    return EvaluationGrams(tmp_path / "grams")


def _extract(code, evaluation, language="python"):
    file = SourceFile(
        content=code.encode(), repository="r", path="p", license="MIT", language=language
    )
    filters = dataclasses.replace(FILTERS, whole_files=())
    found = extract_file(file, split="train", filters=filters, evaluation=evaluation)
    names = [decode_example(entry.example)["name"] for entry in found.functions]
    rejected = {name: n for (what, name), n in found.counts.items() if what == "rejections"}
    return len(found.files), names, rejected


def test_functions_of_an_evaluation_set_and_their_file_go_and_others_of_it_stay(evaluation):
    code = f"{CODE}\n\ndef closest(values, target):\n{SOLUTION}"
    files, names, rejected = _extract(code, evaluation)
    assert (files, names) == (0, ["area", "noted"])
    assert rejected["file: in evaluation set exam"] == 1
    assert rejected["function: in evaluation set exam"] == 1
    assert _extract(CODE, evaluation)[:2] == (1, ["area", "noted"])


def test_code_is_found_although_a_docstring_stood_inside_of_it(evaluation):
    head, body = SHORT.split("\n")
    code = f'{head}\n    """Finds it fast."""\n{body}\n'
    assert _extract(code, evaluation)[:2] == (0, [])
    assert _extract(code.replace("min(", "max("), evaluation)[:2] == (1, ["closest"])


def test_documentation_of_an_evaluation_set_is_found_without_the_marks_of_its_lines(evaluation):
    lines = "\n".join(f" * {word}" for word in TEXT.split())
    code = f"/**\n{lines}\n */\nint best(int a) {{\n  int b = a;\n  return b;\n}}\n"
    files, names, rejected = _extract(code, evaluation, "c")
    assert (files, names) == (0, [])
    assert set(rejected) == {"file: in evaluation set exam", "function: in evaluation set exam"}


def test_files_of_a_repository_of_an_evaluation_set_are_left_out(evaluation, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.py").write_text(CODE)
    source = Source(
        name="Owner/Held-Out", ecosystem="directory", places=(str(tmp_path / "in"),), license="MIT"
    )
    (found,) = extract_source(source, filters=FILTERS, licenses=["MIT"], evaluation=evaluation)
    reason = "file: its repository is in an evaluation set"
    assert dict(found.counts) == {("rejections", reason): 1}
