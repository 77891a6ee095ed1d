"""The nine programming languages: how their files are known and where functions stand in them.

To add a language, add its grammar wheel to setup.py and one entry to `LANGUAGES`.
"""

import dataclasses
import functools
import importlib
import pathlib
import re

import tree_sitter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Language:
    """What the parser must know of one language. Node names are those of its grammar.

    Attributes:
        name: Name in the records.
        extensions: Lower-case file endings.
        grammar: Module and function of the grammar wheel.
        functions: Nodes that are a function or a method.
        wrappers: Nodes that may enclose just one function and belong to it, such as decorators;
            documentation stands above them.
        statements: Nodes around an unnamed function above which its documentation stands.
        comments: Nodes of comments.
        documentation: Pattern at the start of a comment that documents; others are ignored.
        docstrings: Whether documentation is the first statement of the body, as in Python.
        macros: Patterns of macros that the grammar takes for something else, behind which it loses
            its way; the parser sees spaces instead, but for the group `kept`.
    """

    name: str
    extensions: tuple[str, ...]
    grammar: tuple[str, str]
    functions: tuple[str, ...]
    wrappers: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    comments: tuple[str, ...] = ("comment",)
    documentation: str = ""
    docstrings: bool = False
    macros: tuple[re.Pattern[bytes], ...] = ()


# "class EXPORT Name : ..." is a function to the grammar, as is "BEGIN_NAMESPACE namespace a {".
# Each pattern starts with a literal, which is found ten times as fast.
_MACROS = tuple(
    re.compile(pattern)
    for pattern in (
        *(
            rb"(?P<kept>%s\s+)[A-Z][A-Z0-9_]{3,}(?:\([^()]*\))?"
            rb"(?=\s+[A-Za-z_]\w*(?:\s*<[^<>;{}]*>)?(?:\s+final)?\s*[:{])" % keyword
            for keyword in (b"class", b"struct")
        ),
        rb"(?P<kept>\n)[A-Z_]*(?:_BEGIN|_END|BEGIN_DECLS|END_DECLS)(?:\([^()]*\))?[ \t]*(?=\n)",
    )
)

_ALL = (
    Language(
        name="c",
        extensions=(".c", ".h"),
        grammar=("tree_sitter_c", "language"),
        functions=("function_definition",),
        macros=_MACROS,
    ),
    Language(
        name="cpp",
        extensions=(".cc", ".cpp", ".cxx", ".hpp", ".hh", ".hxx"),
        grammar=("tree_sitter_cpp", "language"),
        functions=("function_definition",),
        wrappers=("template_declaration",),
        macros=_MACROS,
    ),
    Language(
        name="csharp",
        extensions=(".cs",),
        grammar=("tree_sitter_c_sharp", "language"),
        functions=("method_declaration", "constructor_declaration"),
        documentation="///",
    ),
    Language(
        name="go",
        extensions=(".go",),
        grammar=("tree_sitter_go", "language"),
        functions=("function_declaration", "method_declaration"),
    ),
    Language(
        name="java",
        extensions=(".java",),
        grammar=("tree_sitter_java", "language"),
        functions=("method_declaration", "constructor_declaration"),
        comments=("block_comment", "line_comment"),
        documentation=r"/\*\*",
    ),
    Language(
        name="javascript",
        extensions=(".js", ".mjs", ".cjs", ".jsx"),
        grammar=("tree_sitter_javascript", "language"),
        functions=(
            *("function_declaration", "generator_function_declaration", "method_definition"),
            *("function_expression", "arrow_function"),
        ),
        wrappers=("export_statement",),
        statements=("variable_declarator", "assignment_expression", "pair"),
    ),
    Language(
        name="php",
        extensions=(".php",),
        grammar=("tree_sitter_php", "language_php"),
        functions=("function_definition", "method_declaration"),
        documentation=r"/\*\*",
    ),
    Language(
        name="python",
        extensions=(".py",),
        grammar=("tree_sitter_python", "language"),
        functions=("function_definition",),
        wrappers=("decorated_definition",),
        docstrings=True,
    ),
    Language(
        name="ruby",
        extensions=(".rb",),
        grammar=("tree_sitter_ruby", "language"),
        functions=("method", "singleton_method"),
    ),
)

LANGUAGES: dict[str, Language] = {language.name: language for language in _ALL}

_BY_EXTENSION = {ending: lang.name for lang in _ALL for ending in lang.extensions}
_CPP_HEADER = re.compile(
    rb"^[ \t]*(?:namespace\b|class\s+\w|template\s*<|using\s+\w|public:|private:)|\bstd::",
    re.MULTILINE,
)


def language_of(path: str, content: bytes | None = None) -> str | None:
    """Returns the name of the language of a file, or None if it is none of ours.

    Args:
        path: Its path; only the ending counts.
        content: Its bytes, by which a `.h` of C++ is told from one of C. Without them it is C.
    """
    ending = pathlib.PurePosixPath(path).suffix.lower()
    if ending == ".h" and content is not None and _CPP_HEADER.search(content):
        return "cpp"
    return _BY_EXTENSION.get(ending)


@functools.cache
def grammar(name: str) -> tree_sitter.Language:
    """Returns the grammar of the language called `name`; loaded once in a process."""
    module, function = LANGUAGES[name].grammar
    return tree_sitter.Language(getattr(importlib.import_module(module), function)())
