"""Tests of codet5p_jax.corpus.deduplication."""

import itertools

from codet5p_jax.corpus.deduplication import entry_of, without_duplicates
from codet5p_jax.corpus.records import CodeFile, CodeFunction, code_id


def _function(code, *, split="train", docstring="", repository="r", path="p", position=0):
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


def test_of_equal_records_the_held_out_one_stays():
    entries = [_function("int f(){}", split=s) for s in ("train", "validation", "test")]
    for order in itertools.permutations(entries):
        assert [e.split for e in without_duplicates(order)] == ["test"]


def test_of_equal_functions_in_a_split_the_documented_one_stays():
    entries = [_function("int f(){}"), _function("int f() { }", docstring="Opens it.", path="z")]
    for order in itertools.permutations(entries):
        assert [e.documented for e in without_duplicates(order)] == [True]


def test_what_stays_does_not_depend_on_the_order():
    entries = [
        _function(code, repository=repository, path=path, position=position)
        for code in ("int f(){}", "int g(){}")
        for repository in "ab"
        for path, position in (("x", 0), ("x", 1), ("y", 0))
    ]
    kept = without_duplicates(entries)
    assert kept == without_duplicates(reversed(entries))
    assert {(e.repository, e.path, e.position) for e in kept} == {("a", "x", 0)}
    assert [e.id for e in kept] == sorted(e.id for e in kept)


def test_files_are_known_by_their_code():
    file = CodeFile(code="int x;", language="c", license="MIT", repository="r", path="p")
    entry = entry_of(file, split="train", position=0)
    assert entry.id == code_id("int x;") and not entry.documented
