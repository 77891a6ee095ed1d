"""Tests of codet5p_jax.cli.corpus_tables."""

import io

import pytest
from rich.console import Console

from codet5p_jax.cli.corpus_tables import (
    corpus_tables,
    one_line,
    rejection_rows,
    source_table,
)
from codet5p_jax.evaluation.corpus_section import further_counts

ROW = {"code_files": 10, "code_functions": 1_500, "pairs": 700}
NONE = {"code_files": 0, "code_functions": 0, "pairs": 0}
MANIFEST = {
    "recipe": "small",
    "fingerprint": "ab12",
    "created": "2026-01-01T00:00:00+00:00",
    "notes": ["No network: [mind] this."],
    "splits": {"train": ROW, "validation": ROW, "test": NONE},
    "languages": {"go": {"train": ROW, "validation": ROW, "test": NONE}},
    "licenses": {f"Licence-{i}": {**ROW, "code_functions": i} for i in range(15)},
    "sources": [
        {
            "name": "etcd",
            "ecosystem": "apt",
            "version": "3.4",
            "split": "train",
            "files": 10,
            "bytes": 2_500_000,
            "license": "Apache-2.0",
            "status": "used",
            "reason": "",
        },
        {
            "name": "gone",
            "ecosystem": "npm",
            "version": "",
            "split": "train",
            "files": 0,
            "bytes": 0,
            "license": "",
            "status": "missing",
            "reason": "npm says [404]",
        },
        {
            "name": "held",
            "ecosystem": "npm",
            "version": "",
            "split": "",
            "files": 0,
            "bytes": 0,
            "license": "",
            "status": "dropped",
            "reason": "it is in a set",
        },
    ],
    "rejections": {"file: binary": 3, "function: duplicate": 90, "file: generated": 5_000},
    "files": [],
}
PAIRS = {
    "go": {
        "name": "Open",
        "docstring": "Opens\n  a \x1b[31m[red]door.",
        "repository": "etcd",
        "code": "func Open() {}",
    }
}


def _lines(width, renderable=None):
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False)
    console.print(renderable or corpus_tables(MANIFEST, PAIRS, width=width))
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("width", [50, 80, 120])
def test_tables_fit_the_width(width):
    stream = io.StringIO()
    console = Console(file=stream, width=width)
    console.print(corpus_tables(MANIFEST, PAIRS, width=width))
    assert max(map(len, stream.getvalue().splitlines())) <= width


def test_languages_are_counted_and_wide_tables_tell_their_splits():
    assert "go 20 3,000 1,400" in _lines(80)
    assert "go 20 3,000 1,400 1,500 1,500 0" in _lines(120)
    assert "all 20 3,000 1,400 1,500 1,500 0" in _lines(120)


def test_the_rarest_licences_are_added_up():
    lines = _lines(80)
    assert "Licence-14 10 14 700" in lines and "3 more 30 3 2,100" in lines
    assert not any(line.startswith("Licence-2 ") for line in lines)


def test_what_was_left_out_is_told_by_kind_and_the_most_frequent_first():
    assert list(rejection_rows(MANIFEST["rejections"])) == [
        ("file", "generated", 5_000),
        ("file", "binary", 3),
        ("function", "duplicate", 90),
    ]
    lines = _lines(80)
    assert lines.index("file generated 5,000") + 1 == lines.index("binary 3")


def test_sources_are_added_up_and_those_that_gave_nothing_are_named():
    lines = _lines(80)
    assert "apt 1 0 0 0 10 2.5" in lines and "npm 0 0 1 1 0 0.0" in lines
    assert "gone missing npm says [404]" in lines and "held dropped it is in a set" in lines
    assert "etcd apt 3.4 train 10 2,500 Apache-2.0 used" in _lines(120, source_table(MANIFEST))


def test_notes_and_pairs_are_printed_as_they_are_and_on_one_line():
    lines = _lines(120)
    assert "No network: [mind] this." in lines
    assert "go Open Opens a �[31m[red]door. etcd" in lines
    assert one_line("a\n\n  b\tc ") == "a b c"


def test_whatever_else_a_build_counted_is_a_table_too():
    sets = {"HumanEval": {"file": 2, "function": 30}, "MBPP": {"file": 0, "function": 90}}
    manifest = {**MANIFEST, "scrubbed": {"e-mail address": 7, "AWS key": 1}, "none": {}}
    manifest["evaluation_sets"] = sets
    assert dict(further_counts(manifest)) == {
        "Scrubbed": {"e-mail address": {"count": 7}, "AWS key": {"count": 1}},
        "Evaluation sets": sets,
    }
    lines = _lines(80, corpus_tables(manifest, PAIRS, width=80))
    assert "e-mail address 7" in lines
    assert lines.index("MBPP 0 90") + 1 == lines.index("HumanEval 2 30")
