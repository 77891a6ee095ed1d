"""Functions that a data set cut out of their files, as small files that our parser reads.

A method alone is no file in most languages, and its documentation lies in another column. So each
is put where it could stand: below a comment, and in a class where its language wants one.
"""

import re

_BLOCK = ("c", "cpp", "java", "javascript", "php")
_LINES = {"csharp": "///", "go": "//", "ruby": "#"}
_IN_CLASS = ("csharp", "java", "php")
_UNNAMED = re.compile(r"(?:async\s+)?(?:function\s*\*?\s*\(|\([^)]*\)\s*=>|\w+\s*=>)")
_DECLARED = re.compile(r"(?:async\s+)?function\b|(?:export|const|let|var|class)\b|[\w.$]+\s*[=:]")
_INDENTATION = re.compile(r"[ \t]*")


def file_of_function(code: str, *, documentation: str, name: str, language: str) -> str:
    """Returns a file of that language which holds just this function.

    Args:
        code: The function, from its first character; its further lines may be indented as they
            stood in their class.
        documentation: Its documentation, without markers; Python's stands in the code.
        name: Its name, with or without that of its class before a dot; JavaScript's unnamed
            functions get it.
        language: A key of `LANGUAGES`.
    """
    text = _comment(documentation, language) + _named(_moved_left(code, language), name, language)
    if language in _IN_CLASS or (language == "javascript" and not _stands_alone(code)):
        text = f"class Enclosing {{\n{text}\n}}\n"
    return f"<?php\n{text}" if language == "php" else text


def _comment(documentation: str, language: str) -> str:
    lines = documentation.replace("*/", "* /").strip().splitlines()
    if not lines or language == "python":
        return ""
    if language in _BLOCK:
        return "/**\n" + "".join(f" * {line}\n" for line in lines) + " */\n"
    return "".join(f"{_LINES[language]} {line}\n" for line in lines)


def _named(code: str, name: str, language: str) -> str:
    if language == "javascript" and name and _UNNAMED.match(code):
        return f"{name} = {code};"
    return code


def _stands_alone(code: str) -> bool:
    return bool(_UNNAMED.match(code) or _DECLARED.match(code))


def _moved_left(code: str, language: str) -> str:
    """`code` with what its class indented it by taken off all lines but the first."""
    first, *rest = code.rstrip().split("\n")
    filled = [line for line in rest if line.strip()]
    if not filled:
        return code
    # Python's last line is of the body, one level deeper; elsewhere it closes the function.
    python = language == "python"
    by = max(0, min(map(_columns, filled)) - 4) if python else _columns(filled[-1])
    return "\n".join([first, *(line[min(by, _columns(line)) :] for line in rest)])


def _columns(line: str) -> int:
    found = _INDENTATION.match(line)
    return 0 if found is None else found.end()
