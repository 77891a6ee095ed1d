"""Tests of codet5p_jax.corpus.deduplication."""

import itertools

import pytest

from codet5p_jax.corpus.deduplication import entry_of
from codet5p_jax.corpus.records import CodeFile, CodeFunction, code_id
from codet5p_jax.corpus.tfrecords import decode_example


def function_entry(code, *, split="train", docstring="", repository="r", path="p", position=0):
    record = CodeFunction(
        code=code,
        docstring=docstring,
        name="f",
        language="c",
        license="MIT",
        repository=repository,
        path=path,
        id=code_id(code),
    )
    return entry_of(record, split=split, position=position)


def test_held_out_records_come_before_those_of_training():
    splits = ("test", "validation", "train")
    for docstrings in itertools.product(("", "Opens it."), repeat=3):
        ranks = [
            function_entry("int f(){}", split=split, docstring=docstring, path=path).rank
            for split, docstring, path in zip(splits, docstrings, "zyx", strict=True)
        ]
        assert ranks == sorted(ranks)


def test_in_a_split_documented_functions_come_first():
    documented = [function_entry("int f(){}", docstring="Opens it.", path=p).rank for p in "abcdef"]
    others = [function_entry("int f(){}", path=path).rank for path in "ghijkl"]
    assert max(documented) < min(others)


@pytest.mark.parametrize("other", [{"repository": "s"}, {"path": "q"}, {"position": 1}])
def test_ranks_tell_the_places_of_equal_records_apart(other):
    assert function_entry("int f(){}").rank != function_entry("int f(){}", **other).rank
    assert function_entry("int f(){}").id == function_entry("int f() { }", **other).id


def test_files_are_known_by_their_code():
    file = CodeFile(code="int x;", language="c", license="MIT", repository="r", path="p")
    entry = entry_of(file, split="train", position=0)
    assert f"{entry.id:016x}" == code_id("int x;") and not entry.documented
    assert decode_example(entry.example)["code"] == "int x;"
