"""Tests of codet5p_jax.corpus.function_rows: what the parser finds in them."""

import pytest

from codet5p_jax.corpus.function_rows import file_of_function
from codet5p_jax.corpus.parsing import parse_functions

# Functions as CodeSearchNet holds them: the first line is cut off its indentation.
FUNCTIONS = {
    "python": ('def add(self, a):\n        """Adds a to it."""\n        return a', "", "C.add"),
    "java": (
        "@Override\n    public int add(int a) {\n        return a;\n    }",
        "Adds a to it.",
        "",
    ),
    "csharp": ("public int Add(int a) {\n        return a;\n    }", "Adds a to it.", ""),
    "php": (
        "public function add($a)\n    {\n        return $a;\n    }",
        "Adds a to it.\n\n@param int $a",
        "C.add",
    ),
    "ruby": ("def add(a)\n      a + 1\n    end", "Adds a to it.", "C#add"),
    "go": ("func (c *C) Add(a int) int {\n\treturn a\n}", "Adds a to it.", "Add"),
    "javascript": ("function add(a) {\n    return a;\n  }", "Adds a to it.", "add"),
    "cpp": ("int C::add(int a) {\n    return a;\n}", "Adds a to it.", ""),
    "c": ("int add(int a) {\n    return a;\n}", "Adds */ a to it.", ""),
}
CODE = {
    "python": "def add(self, a):\n    return a",
    "java": "@Override\npublic int add(int a) {\n    return a;\n}",
    "csharp": "public int Add(int a) {\n    return a;\n}",
    "php": "public function add($a)\n{\n    return $a;\n}",
    "ruby": "def add(a)\n  a + 1\nend",
    "go": "func (c *C) Add(a int) int {\n\treturn a\n}",
    "javascript": "function add(a) {\n  return a;\n}",
    "cpp": "int C::add(int a) {\n    return a;\n}",
    "c": "int add(int a) {\n    return a;\n}",
}


def _parsed(code, documentation, name, language):
    text = file_of_function(code, documentation=documentation, name=name, language=language)
    return parse_functions(text.encode(), language)


@pytest.mark.parametrize("language", FUNCTIONS)
def test_a_function_is_found_with_its_documentation_at_the_left_margin(language):
    (found,) = _parsed(*FUNCTIONS[language], language)
    assert found.code == CODE[language]
    assert found.docstring.replace("* / ", "") == "Adds a to it."
    assert found.name.lower() == "add"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("function(a) {\n    return a;\n  }", "C.add = function(a) {\n  return a;\n};"),
        ("async function (a) {\n  return a;\n}", "C.add = async function (a) {\n  return a;\n};"),
        ("(a, b) => {\n  return a;\n}", "C.add = (a, b) => {\n  return a;\n};"),
        ("a => {\n  return a;\n}", "C.add = a => {\n  return a;\n};"),
        ("add(a) {\n    return a;\n  }", "add(a) {\n  return a;\n}"),
        ("static async add(a) {\n    return a;\n  }", "static async add(a) {\n  return a;\n}"),
    ],
)
def test_methods_and_unnamed_functions_of_javascript_are_found(code, expected):
    (found,) = _parsed(code, "Adds a to it.", "C.add", "javascript")
    assert (found.name, found.docstring) == ("add", "Adds a to it.")
    assert found.code.rstrip(";") == expected.rstrip(";")


def test_an_unnamed_function_without_a_name_is_not_found():
    assert _parsed("function(a) {\n  return a;\n}", "", "", "javascript") == []


def test_text_that_starts_at_the_margin_stays_there():
    code = 'def add(a):\n        return """\nx\n"""'
    assert _parsed(code, "", "add", "python")[0].code == code
