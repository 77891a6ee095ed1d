"""Tests of codet5p_jax.evaluation.markup."""

import html.parser

import pytest

from codet5p_jax.evaluation.markup import Markup, definitions, join, table, tag

HOSTILE = [
    "</script><script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "</pre></section>&amp;<!--",
    "naïve 数据 \N{PILE OF POO} \u202egnp.exe",
    "\"'><svg onload=alert(1)>",
]


class _Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.attributes = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_arrives_as_text_in_children_and_attributes(text):
    page = _Page(tag("pre", text, title=text))
    assert page.tags == ["pre"]
    assert page.text == text
    assert page.attributes == [("title", text)]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_arrives_as_text_in_tables_and_lists(text):
    page = _Page(join([table([text], [[text]], caption=text), definitions([(text, text)])]))
    assert page.text == text * 5
    assert set(page.tags) == {
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "p",
        "dl",
        "dt",
        "dd",
    }


def test_markup_is_not_escaped_again():
    assert tag("p", tag("b", "a & b")) == "<p><b>a &amp; b</b></p>"
    assert isinstance(tag("p"), Markup)


def test_control_characters_and_lone_surrogates_are_shown_as_replacements():
    text = tag("pre", "a\x00b\x1b[31m\ud800\tc\n")
    assert text == "<pre>a\ufffdb\ufffd[31m\ufffd\tc\n</pre>"
    text.encode("utf-8")  # a page can be written


def test_missing_children_and_attributes_are_left_out():
    assert tag("p", None, "x", class_=None, data_step=0) == '<p data-step="0">x</p>'
    assert definitions([("a", None), ("b", ""), ("c", 0)]) == "<dl><dt>c</dt><dd>0</dd></dl>"
