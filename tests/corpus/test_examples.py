"""Tests of codet5p_jax.corpus.examples."""

import collections
import subprocess
import sys

import pytest

from codet5p_jax.corpus.datasets import read_dataset
from codet5p_jax.corpus.examples import NoSuchRecordsError, draw_pairs, draw_records


def test_records_are_drawn_from_the_split_and_language_and_no_other(corpus):
    known = [*read_dataset(corpus, "code_functions", split="train")]
    for language in ("java", "python"):
        drawn = draw_records(corpus, language=language, count=100)
        assert len(drawn) == sum(record["language"] == language for record in known) > 0
        assert all(record in known and record["language"] == language for record in drawn)
    files = draw_records(corpus, "code_files", split="test", count=100)
    everything = [*read_dataset(corpus, "code_files", split="test")]
    assert sorted(f["path"] for f in files) == sorted(f["path"] for f in everything)


def test_no_record_is_drawn_twice_and_no_more_than_asked_for(corpus):
    drawn = draw_records(corpus, count=7)
    assert len({record["id"] for record in drawn}) == len(drawn) == 7


def test_equal_seeds_draw_alike_and_others_do_not(corpus):
    first, again, other = (
        [record["id"] for record in draw_records(corpus, count=5, seed=seed)] for seed in (0, 0, 1)
    )
    assert first == again != other


def test_every_record_is_drawn_about_as_often(corpus):
    drawn = collections.Counter(
        draw_records(corpus, count=1, seed=seed)[0]["id"] for seed in range(1_000)
    )
    records = [*read_dataset(corpus, "code_functions", split="train")]
    assert set(drawn) == {record["id"] for record in records}
    fair = 1_000 / len(records)  # files hold unlike numbers, and each is as likely
    assert max(drawn.values()) < 3 * fair


def test_only_documented_functions_are_drawn_where_wanted(corpus):
    drawn = draw_records(corpus, documented=True, count=100)
    pairs = [r for r in read_dataset(corpus, "code_functions", split="train") if r["docstring"]]
    assert len(drawn) == len(pairs) and all(record["docstring"] for record in drawn)


def test_each_language_gives_a_pair(corpus):
    pairs = draw_pairs(corpus)
    assert list(pairs) == ["java", "python"]
    assert all(pair["language"] == name and pair["docstring"] for name, pair in pairs.items())
    assert pairs == draw_pairs(corpus) != draw_pairs(corpus, seed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"language": "pyton"}, r"no language 'pyton' in .*Did you mean 'python'\? Known: java, p"),
        ({"language": "go"}, r"no language 'go' in .* Known: java, python\."),
        ({"split": "tset"}, r"no split 'tset'\. Did you mean 'test'\? Known: train, validation"),
        ({"dataset": "code_function"}, r"no dataset 'code_function'\. Did you mean 'code_funct"),
        ({"dataset": "code_files", "documented": True}, "code_files have no documentation"),
    ],
)
def test_unknown_names_tell_the_known_ones(corpus, arguments, message):
    with pytest.raises(NoSuchRecordsError, match=message):
        draw_records(corpus, **arguments)


def test_a_directory_without_corpus_says_how_to_build_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="codet5p corpus build"):
        draw_records(tmp_path)


def test_looking_at_records_loads_nothing_that_makes_them():
    code = (
        "import sys, codet5p_jax.corpus.examples\n"
        "assert not {'tree_sitter', 'detect_secrets', 'rensa', 'apache_beam'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
