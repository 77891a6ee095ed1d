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
