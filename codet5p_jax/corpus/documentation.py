"""Documentation comments and docstrings to plain text: markers off, first paragraph only."""

import html
import inspect
import re

_BLOCK_OPEN = re.compile(r"^/\*[*!]*<?")
_BLOCK_CLOSE = re.compile(r"\**\*/\s*\\?\s*$")  # the backslash: inside of a macro of C
_LINE_MARKER = re.compile(r"^\s*(?://[/!]*<?|#+:?|\*+(?!/))[ \t]?")
_LINE_END = re.compile(r"\s+\\$")
_RUBY_BLOCK = re.compile(r"\A=begin.*$|^=end\s*\Z", re.MULTILINE)
_RDOC_CALL_SEQUENCE = re.compile(r"^:call-seq:.*?(?:^\s*$\n?|\Z)", re.MULTILINE | re.DOTALL)
# A line of dashes or stars, or a heading that has one on either side.
_RULE = re.compile(r"[\W_]*|[-=*#~_+/]{3,}.*|.*[-=*#~_+]{4,}|={2,}.*={2,}")
_NEW_PARAGRAPH = re.compile(
    r"(?=<(?:p|para|pre|ul|ol|dl|table|blockquote|hr|h[1-6])\b[^<>]*/?>)", re.IGNORECASE
)
_TAG = re.compile(
    r"^Description:\s*|^[@\\](?:brief|short|summary|description|desc|details|internal|private|public|protected"
    r"|static|override|async|ignore|overload|rst)\b\s*",
    re.IGNORECASE,
)
_TAG_LINE = re.compile(r"[@\\][A-Za-z]|:(?:param|return|rtype|type|raises?)\b")
# Lines that say nothing of what a function does; what follows them may.
_NO_PROSE = re.compile(
    r"[@\\](?:ingroup|addtogroup|defgroup|fn|function|func|method|name|memberof|api|export)\b.*"
    r"|:(?:nodoc|doc|stopdoc|startdoc|method|singleton-method|attr\w*|category):.*"
    r"|go:\w.*|\+build .*|nolint\b.*|lint:.*|export \w+"
    r"|(?:eslint|prettier|tslint|jshint|jslint|istanbul|rubocop|pylint|noqa|NOLINT|clang-format)"
    r"(?:-[\w-]+|:| (?:off|on|ignore)\b).*|@ts-\w+.*"
    r"|(?:API)?(?:Constructor|Function|Method|Property|Class):\s+\S+|Signature:\s+\S+"
    r"|\(?non-javadoc\)?",
    re.IGNORECASE,
)
# A heading above a list, a task, a session: the paragraph ends there.
_END = re.compile(
    r"(?:parameters?|params|arguments|args|returns?|raises|throws|context|inputs|outputs):\s*$"
    r"|(?:TODO|FIXME|XXX|HACK)\b|>>> ",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(  # what was announced is cut off
    r"(?:(?:^|(?<=[.:;!?)]))\s*(?:for example|examples?(?: usage)?|usage|e\.g\.)"
    r"|\s(?-i:For example|Examples?(?: usage)?|Usage))\s*[:,]$",
    re.IGNORECASE,
)
_BRACES = r"(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*"  # code in them may have two levels of its own
_INLINE_CODE = re.compile(rf"\{{@(?:code|literal)\s+({_BRACES})\}}")
_LINK = re.compile(
    r"\{@\w+\s+([^\s(){}|]+(?:\([^(){}]*\))?)(?:[\s|]+((?:[^{}]|\{[^{}]*\})*?))?\s*\}"
)
_OTHER_INLINE = re.compile(r"\{@\w+\s+([^{}]*)\}")
_DOXYGEN_INLINE = re.compile(r"(?:(?<=\s)|(?<=\()|^)[\\@](?:a|c|p|e|em|ref|copydoc)\s+(?=\S)")
_XML_REFERENCE = re.compile(r"<\w+\s+(?:cref|name|langword|href)=\"(?:\w:)?([^\"]*)\"\s*/>")
_ELEMENTS = (
    "a|b|big|blockquote|br|c|caption|center|cite|code|dd|description|div|dl|dt|em|example|font"
    "|h[1-6]|hr|i|img|item|kbd|li|list|ol|p|para|paramref|pre|remarks|samp|see|seealso|small|span"
    "|strong|sub|summary|sup|table|tbody|td|term|th|thead|tr|tt|ul|typeparamref|value|var"
)
_ELEMENT = re.compile(rf"</?(?:{_ELEMENTS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"(?<!`)&(?:[A-Za-z]\w+|#\d+|#x[0-9a-fA-F]+);")
_STRING_PREFIX = re.compile(r"^[rRuUbB]{0,2}(\"\"\"|'''|\"|')")
_WHITESPACE = re.compile(r"\s+")


def clean_comment(comment: str) -> str:
    """Returns the first paragraph of a documentation comment, on one line.

    "/** Opens it. @param path where it lies */" -> "Opens it."

    Args:
        comment: One block comment, or consecutive line comments, markers included.
    """
    text = _without_markers(comment)
    summary, end, _ = text.partition("<summary>")[2].partition("</summary>")
    text = summary if end else text
    return _without_markup(_first_paragraph(_NEW_PARAGRAPH.sub("\n\n", text)))


def clean_docstring(literal: str) -> str:
    """Returns the first paragraph of a Python docstring, given its literal with the quotes."""
    quote = _STRING_PREFIX.match(literal)
    if quote is None:
        return ""
    text = literal[quote.end() :].removesuffix(quote.group(1))
    return _plain(_first_paragraph(inspect.cleandoc(text)))


def _without_markers(comment: str) -> str:
    if comment.startswith("=begin"):
        return _RDOC_CALL_SEQUENCE.sub("", _RUBY_BLOCK.sub("", comment))
    body = _BLOCK_CLOSE.sub("", _BLOCK_OPEN.sub("", comment.strip()))
    lines = (_LINE_END.sub("", _LINE_MARKER.sub("", line)) for line in body.splitlines())
    return _RDOC_CALL_SEQUENCE.sub("", "\n".join(lines))


def _first_paragraph(text: str) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        line = _TAG.sub("", line.strip())
        if _NO_PROSE.fullmatch(line):
            continue
        if _RULE.fullmatch(line) or (lines and _TAG_LINE.match(line)):
            if lines:
                break
        elif _END.match(line):
            break
        else:
            lines.append(line)
    return " ".join(lines)


def _without_markup(text: str) -> str:
    text = _OTHER_INLINE.sub(r"\1", _LINK.sub(_link_text, _INLINE_CODE.sub(r"\1", text)))
    text = _DOXYGEN_INLINE.sub("", _XML_REFERENCE.sub(r"\1", text))
    return _plain(_ENTITY.sub(_character, _ELEMENT.sub("", text)))


def _link_text(link: re.Match[str]) -> str:
    """What JavaDoc shows of a link: its label, or its target without the mark of a member."""
    return link[2] or link[1].removeprefix("#").replace("#", ".")


def _character(entity: re.Match[str]) -> str:
    return html.unescape(entity.group())


def _plain(text: str) -> str:
    return _EXAMPLE.sub("", _WHITESPACE.sub(" ", text).strip()).removeprefix("- ").strip()
