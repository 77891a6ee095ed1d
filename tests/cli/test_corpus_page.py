"""Tests of codet5p_jax.cli.corpus_page."""

import html.parser
import re

import pytest

from codet5p_jax.cli.corpus_page import LONGEST_CODE, page, write_page
from codet5p_jax.corpus.examples import draw_pairs
from codet5p_jax.corpus.manifest import read_manifest


class _Text(html.parser.HTMLParser):
    """What a reader sees, and whether each element is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def manifest(built_corpus):
    return read_manifest(built_corpus)


def test_the_page_tells_counts_licences_rejections_sources_and_a_pair_of_each_language(
    built_corpus, manifest
):
    shown = _Text(page(manifest, draw_pairs(built_corpus)))
    assert shown.open == []
    words = " ".join(word for word in shown.words if word)
    functions = sum(split["code_functions"] for split in manifest["splits"].values())
    assert f"{functions} functions" in words
    for expected in ("php", "MIT", "file: ", manifest["fingerprint"], "All 4 sources"):
        assert expected in words
    assert re.search(r"python: area_\d+", words) and re.search(r"php: plus_\d+", words)
    assert "Returns the [red]area[/red] of circle number" in words


def test_the_page_refers_to_nothing_outside_itself(built_corpus, manifest, tmp_path):
    path = tmp_path / "new" / "corpus.html"
    write_page(path, manifest, draw_pairs(built_corpus))
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=|url\(|@import", text)


def test_code_is_escaped_and_long_code_is_cut(manifest):
    code = "\n".join(["<script>alert('$x')</script>", *map(str, range(LONGEST_CODE))])
    record = dict.fromkeys(("docstring", "language", "license", "name", "path", "repository"), "a")
    text = page(manifest, {"go": {**record, "code": code}})
    assert "<script>alert" not in text and "&lt;script&gt;alert(&#x27;$x&#x27;)" in text
    assert "… and 1 more lines" in text


def test_notes_of_the_build_come_first(manifest):
    text = page({**manifest, "notes": ["no network: standard library only"]}, {})
    assert text.index("standard library only") < text.index("Language")
