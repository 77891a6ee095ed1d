"""Tests of codet5p_jax.evaluation.corpus_section."""

import re

from codet5p_jax.evaluation.corpus_section import corpus_section


def _text(manifest):
    return re.sub(r"<[^>]+>", " ", corpus_section(manifest))


def test_counts_of_a_language_are_summed_over_splits():
    manifest = {"languages": {"go": {"train": {"pairs": 3000}, "test": {"pairs": 12}}}}
    assert "3,012" in _text(manifest)


def test_rejections_and_sources_are_listed_with_their_reasons():
    sources = [
        {"name": "etcd", "license": "Apache-2.0", "files": 10, "bytes": 12345},
        {"name": "gone", "status": "left out", "reason": "not in the archive", "files": 0},
    ]
    text = _text({"rejections": {"file: minified": 7}, "sources": sources})
    for expected in ("file: minified", "7", "Apache-2.0", "12,345", "not in the archive", "–"):
        assert expected in text
    assert "ecosystem" not in text  # no source has one


def test_notes_of_the_build_are_shown():
    assert "no network: standard library only" in _text(
        {"recipe": "quickstart", "notes": ["no network: standard library only"]}
    )


def test_languages_are_told_by_split_too():
    manifest = {"languages": {"go": {"train": {"pairs": 3000}, "test": {"pairs": 12}}}}
    text = " ".join(_text(manifest).split())
    assert "pairs, train pairs, validation pairs, test" in text and "3,000 – 12" in text


def test_the_largest_comes_first_and_splits_keep_their_order():
    row = {"code_functions": 1}
    text = _text({"licenses": {"ISC": row, "MIT": {"code_functions": 5}}, "splits": {"a": row}})
    assert text.index("MIT") < text.index("ISC")
    splits = {"train": {"code_functions": 1}, "test": {"code_functions": 9}}
    text = _text({"splits": splits})
    assert text.index("train") < text.index("test")


def test_bars_are_as_long_as_their_counts_and_nothing_has_none():
    shown = corpus_section({"rejections": {"a": 40, "b": 10, "c": 0}})
    widths = [float(width) for width in re.findall(r'<rect x="0" y="1" width="([\d.]+)"', shown)]
    assert widths == [100, 25]


def test_sources_that_gave_nothing_are_told_with_their_reason():
    sources = [{"name": "a"}, {"name": "b", "status": "missing", "reason": "no npm"}]
    assert " ".join(_text({"sources": sources}).split()).index("b missing no npm") > 0


def test_other_counts_of_a_build_are_shown_under_their_name():
    assert "Scrubbed" in _text({"scrubbed": {"e-mail address": 3}})
    sets = {"MBPP": {"file": 0, "function": 9}, "HumanEval": {"file": 20, "function": 3}}
    text = " ".join(_text({"evaluation_sets": sets}).split())
    assert "Evaluation sets file function HumanEval 20 3 MBPP 0 9" in text
