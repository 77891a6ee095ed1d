"""Tests of codet5p_jax.cli.printable."""

import sys

import pytest

from codet5p_jax.cli.printable import printable, shown


@pytest.mark.parametrize("text", ["def f():\n\treturn 'é漢🎉'\n", "", "[bold]x[/]"])
def test_text_without_control_characters_stays_as_it_is(text):
    assert printable(text) == text


def test_escape_sequences_are_shown_and_not_obeyed():
    assert printable("a\x1b]0;title\x07b\0\x9bc\x7f\rd") == "a�]0;title�b��c��d"


def test_line_ends_of_windows_become_plain_ones():
    assert printable("a\r\nb\r\n") == "a\nb\n"


@pytest.mark.parametrize(("is_terminal", "expected"), [(True, "a�c"), (False, "a\x1bc")])
def test_a_terminal_alone_gets_no_control_characters(monkeypatch, is_terminal, expected):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert shown("a\x1bc") == expected
