"""Tests of codet5p_jax.corpus.documentation."""

import pytest

from codet5p_jax.corpus.documentation import clean_comment, clean_docstring


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        (
            "/**\n * Opens the {@link File} at\n * a <code>path</code>.\n *\n * More.\n */",
            "Opens the File at a path.",
        ),
        ("/** Opens it.\n * @param path where\n */", "Opens it."),
        ("// Open opens\n// the file.\n//\n// It is slow.", "Open opens the file."),
        ("# Public: Opens it.\n#\n# path - where", "Public: Opens it."),
        ("=begin\nOpens it.\n=end", "Opens it."),
        (
            '/// <summary>\n/// Opens the <see cref="T:IO.File"/>.\n/// </summary>\n'
            '/// <param name="p">where</param>',
            "Opens the IO.File.",
        ),
        ("/*! \\brief Opens it.\n *  \\param path where */", "Opens it."),
        ("/* ------\n * Opens it.\n * ------ */", "Opens it."),
        ("/**\n * @description Opens it.\n */", "Opens it."),
        ("/**\n * Method: open\n * Opens it.\n */", "Opens it."),
        ("// Parses <mangled-name> and <b>stops</b>.", "Parses <mangled-name> and stops."),
        ("/** */", ""),
        ("//", ""),
    ],
)
def test_first_paragraph_of_a_comment(comment, text):
    assert clean_comment(comment) == text


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        ('"""Opens it.\n\n    Slowly.\n    """', "Opens it."),
        ('r"""\n    Opens\n    it.\n\n    :param path: where\n    """', "Opens it."),
        ("'Opens it.'", "Opens it."),
        ('"""Opens it.\n    :param path: where\n    """', "Opens it."),
        ("name", ""),
    ],
)
def test_first_paragraph_of_a_docstring(literal, text):
    assert clean_docstring(literal) == text
