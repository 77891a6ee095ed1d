"""Documentation comments and docstrings to plain text: markers off, first paragraph only."""

import inspect
import re

_BLOCK_OPEN = re.compile(r"^/\*[*!]*<?")
_BLOCK_CLOSE = re.compile(r"\**\*/\s*$")
_LINE_MARKER = re.compile(r"^\s*(?://[/!]*<?|#+:?|\*+(?!/))[ \t]?")
_RUBY_BLOCK = re.compile(r"\A=begin.*$|^=end\s*\Z", re.MULTILINE)
_RULE = re.compile(r"[\W_]*")  # a line of dashes or stars
_SUMMARY = re.compile(r"<summary>(.*?)</summary>", re.DOTALL)
_TAG = re.compile(r"^(?:[@\\](?:brief|short|summary|description|desc|details)\b)\s*", re.IGNORECASE)
_TAG_LINE = re.compile(r"[@\\][A-Za-z]|:(?:param|return|rtype|type|raises?)\b")
_LINK = re.compile(r"\{@\w+\s+([^}]*)\}")
_XML_REFERENCE = re.compile(r"<\w+\s+(?:cref|name|langword|href)=\"(?:\w:)?([^\"]*)\"\s*/>")
_ELEMENTS = (
    "a|b|blockquote|br|c|code|dd|description|div|dl|dt|em|example|h[1-6]|hr|i|item|kbd|li|list|ol|p"
    "|para|paramref|pre|remarks|see|seealso|span|strong|sub|summary|sup|table|td|term|th|tr|tt|ul"
    "|typeparamref|value|var"
)
_ELEMENT = re.compile(rf"</?(?:{_ELEMENTS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_NATURAL_DOCS = re.compile(r"(?:API)?(?:Constructor|Function|Method|Property): \S+")
_STRING_PREFIX = re.compile(r"^[rRuUbB]{0,2}(\"\"\"|'''|\"|')")
_WHITESPACE = re.compile(r"\s+")


def clean_comment(comment: str) -> str:
    """Returns the first paragraph of a documentation comment, on one line.

    "/** Opens it. @param path where it lies */" -> "Opens it."

    Args:
        comment: One block comment, or consecutive line comments, markers included.
    """
    text = _without_markers(comment)
    summary = _SUMMARY.search(text)
    return _first_paragraph(summary.group(1) if summary else text)


def clean_docstring(literal: str) -> str:
    """Returns the first paragraph of a Python docstring, given its literal with the quotes."""
    quote = _STRING_PREFIX.match(literal)
    if quote is None:
        return ""
    text = literal[quote.end() :].removesuffix(quote.group(1))
    return _first_paragraph(inspect.cleandoc(text))


def _without_markers(comment: str) -> str:
    if comment.startswith("=begin"):
        return _RUBY_BLOCK.sub("", comment)
    body = _BLOCK_CLOSE.sub("", _BLOCK_OPEN.sub("", comment.strip()))
    return "\n".join(_LINE_MARKER.sub("", line) for line in body.splitlines())


def _first_paragraph(text: str) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        line = _TAG.sub("", line.strip())
        if _RULE.fullmatch(line) or (lines and _TAG_LINE.match(line)):
            if lines:
                break
        elif lines or not _NATURAL_DOCS.fullmatch(line):
            lines.append(line)
    return _plain(" ".join(lines))


def _plain(text: str) -> str:
    text = _XML_REFERENCE.sub(r"\1", _LINK.sub(r"\1", text))
    return _WHITESPACE.sub(" ", _ELEMENT.sub("", text)).strip()
