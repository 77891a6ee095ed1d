"""Tests of codet5p_jax.corpus.splits."""

import collections

from codet5p_jax.corpus.field_maps import FieldMap
from codet5p_jax.corpus.sources import Source
from codet5p_jax.corpus.splits import assign_splits, hashed_split


def _sources(names, **kwargs):
    return [Source(name=name, ecosystem="directory", places=(), **kwargs) for name in names]


def test_a_hash_of_the_name_holds_out_a_twentieth_for_each_of_two_splits():
    counts = collections.Counter(hashed_split(f"repository-{i}") for i in range(10_000))
    # three standard deviations of a binomial with n = 10,000 and p = 0.05 are 65
    assert abs(counts["test"] - 500) < 66 and abs(counts["validation"] - 500) < 66


def test_pinned_splits_stay():
    pinned = [s for split in ("train", "test") for s in _sources([split], split=split)]
    assert [s.split for s in assign_splits([*pinned, *_sources("abcdef")])][:2] == ["train", "test"]


def test_no_split_is_empty_where_there_are_three_repositories():
    for first in range(0, 600, 3):
        names = map(str, range(first, first + 3 + first % 2))
        splits = {s.split for s in assign_splits(_sources(names))}
        assert splits == {"train", "validation", "test"}, first


def test_a_split_is_not_filled_with_the_only_repository_of_another():
    assert hashed_split("four") == "test"
    sources = assign_splits(_sources(["one", "two", "three", "four"]))
    assert [s.split for s in sources] == ["train", "validation", "train", "test"]


def test_a_split_does_not_depend_on_the_other_repositories():
    names = [f"repository-{i}" for i in range(200)]
    alone = {s.name: s.split for s in assign_splits(_sources(names))}
    more = {s.name: s.split for s in assign_splits(_sources([*names, *map(str, range(99))]))}
    assert all(more[name] == split for name, split in alone.items())


def test_one_or_two_repositories_are_split_by_file():
    assert [s.split for s in assign_splits(_sources(["x", "y"]))] == [None, None]


def test_files_of_rows_have_no_split_of_their_own_and_fill_none():
    rows = _sources("abcd", rows=FieldMap(name="m", content="c", repository="r", path="p"))
    assert [s.split for s in assign_splits(rows)] == [None] * 4
    mixed = {s.name: s.split for s in assign_splits([*rows, *_sources(["x", "y", "z"])])}
    assert {mixed[name] for name in "abcd"} == {None}
    assert {mixed[name] for name in "xyz"} == {"train", "validation", "test"}
