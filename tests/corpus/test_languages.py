"""Tests of codet5p_jax.corpus.languages."""

import pytest

from codet5p_jax.corpus.languages import LANGUAGES, grammar, language_of


def test_there_are_nine_languages():
    assert " ".join(sorted(LANGUAGES)) == "c cpp csharp go java javascript php python ruby"


@pytest.mark.parametrize("name", sorted(LANGUAGES))
def test_every_node_that_a_language_names_is_in_its_grammar(name):
    spec = LANGUAGES[name]
    for node in (*spec.functions, *spec.wrappers, *spec.statements, *spec.comments):
        assert grammar(name).id_for_node_kind(node, True) is not None, node


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a/b.py", "python"),
        ("A.JAVA", "java"),
        ("x.cjs", "javascript"),
        ("x.rs", None),
        ("py", None),
    ],
)
def test_the_ending_of_a_path_names_its_language(path, language):
    assert language_of(path) == language


def test_a_header_of_cpp_is_told_from_one_of_c_by_its_content():
    assert language_of("a.h", b"int f(void);\n") == "c"
    assert language_of("a.h", b"#pragma once\nnamespace a {\n}\n") == "cpp"
    assert language_of("a.h", b"void f(std::string s);\n") == "cpp"


@pytest.mark.timeout(20)
def test_a_header_of_empty_lines_takes_no_time():
    """Spaces that run on over lines took the square of their number: 40 KB were 16 seconds."""
    assert language_of("a.h", b"\n" * 2_000_000) == "c"
