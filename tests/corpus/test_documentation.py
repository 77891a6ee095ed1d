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
        # JavaDoc
        (
            "/** As {@link #open(File, int) opening}, not {@link #close}. */",
            "As opening, not close.",
        ),
        ("/** As {@link File#open(String, int)} does. */", "As File.open(String, int) does."),
        ("/** Makes {@code new byte[] {a, {b}}} of it. */", "Makes new byte[] {a, {b}} of it."),
        ("/** Opens it.\n * <p>Slowly. */", "Opens it."),
        ("/** Opens it.<p>\n * Slowly. */", "Opens it."),
        ("/** Opens <b>it</b>:\n * <pre>open(it);</pre> */", "Opens it:"),
        ("/** a &times; b &lt; c&#42; of `&amp;` */", "a × b < c* of `&amp;`"),
        ("/** Opens it. Example usage:\n * <pre>open(it);</pre> */", "Opens it."),
        # JSDoc
        ("/**\n * @private\n * @function open\n * Opens it.\n */", "Opens it."),
        ("/** Opens {@link http://a.b/c|the page}. */", "Opens the page."),
        ("/**\n * APIMethod: open\n * Opens it.\n *\n * Returns:\n * {File}\n */", "Opens it."),
        ("/**\n * Parameters:\n * path - {String}\n */", ""),
        # Doxygen
        ("/** \\ingroup files\n *  Opens \\a path and @p mode. */", "Opens path and mode."),
        ("//! \\rst\n//! Opens it.", "Opens it."),
        ("// Description:\n// Opens it.", "Opens it."),
        ("// Description: Opens it.", "Opens it."),
        ("// ---------------- Files ----------------\n// Opens it.", "Opens it."),
        ("// == Files ==\n// Opens it.", "Opens it."),
        ("// Files ---------------------------------\n// Opens it.", "Opens it."),
        ("/* Opens it. */ \\", "Opens it."),
        ("/* Opens it \\\n * slowly. */ \\", "Opens it slowly."),
        ("/*\n * Class:     a_B\n * Method:    open\n * Signature: (J)V\n */", ""),
        # Go
        ("// Open opens it.\n//go:noinline", "Open opens it."),
        ("//go:nosplit\n// Open opens it.\n//nolint:errcheck // yes", "Open opens it."),
        ("// Open opens it.\n// TODO(roe): and closes it.", "Open opens it."),
        # Ruby
        ("# :nodoc:\n# Opens it.", "Opens it."),
        ("# :call-seq:\n#   open(path) -> file\n#\n# Opens it.", "Opens it."),
        ("# :call-seq:\n#   open(path) -> file", ""),
        ("# Opens +path+.\n# rubocop:disable Metrics", "Opens +path+."),
        # C#
        ("/// <summary>Opens <c>it</c>.\n/// <para>Slowly.</para></summary>", "Opens it."),
        ("// Writes a <summary> element.", "Writes a element."),
        ("/// <inheritdoc/>", "<inheritdoc/>"),  # which a filter knows
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
        ('"""Opens it, for example:\n\n    >>> open(it)\n    """', "Opens it, for example:"),
        ('"""\n    >>> open(it)\n    """', ""),
        ('"""Opens it.\n    TODO: close it."""', "Opens it."),
        ('"""Of `\\mathbb Z` and {@code x}."""', "Of `\\mathbb Z` and {@code x}."),
        ("name", ""),
    ],
)
def test_first_paragraph_of_a_docstring(literal, text):
    assert clean_docstring(literal) == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize("line", ["<summary>", "</summary><summary>", ":call-seq:", "{@code {"])
def test_comments_that_open_what_they_never_close_take_no_time(line):
    """These took the square of their length, hours for the two megabytes that a file may have."""
    assert len(clean_comment("/**\n" + f" * {line}\n" * 50_000 + " */")) < 1_000_000
