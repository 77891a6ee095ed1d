"""Tests of codet5p_jax.cli.printable."""

import pytest

from codet5p_jax.cli.printable import printable


@pytest.mark.parametrize("text", ["def f():\n\treturn 'é漢🎉'\n", "", "[bold]x[/]"])
def test_text_without_control_characters_stays_as_it_is(text):
    assert printable(text) == text


def test_escape_sequences_are_shown_and_not_obeyed():
    assert printable("a\x1b]0;title\x07b\0\x9bc\x7f\rd") == "a�]0;title�b��c��d"


def test_line_ends_of_windows_become_plain_ones():
    assert printable("a\r\nb\r\n") == "a\nb\n"
