"""Filters: named predicates that return why something is left out, or None if it is kept.

A filter of files sees a `SourceFile`, one of functions a `ParsedFunction`, one of documentation its
text. Reasons are counted in the manifest, so they hold no numbers of the file at hand.

Sources: CodeT5+ (arXiv:2305.07922) section 4.1 for the lengths of files; the filters of StarCoder
(arXiv:2305.06161) for long lines and alphanumeric share; CodeSearchNet (arXiv:1909.09436) section 2
for functions and documentation.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from codet5p_jax.corpus.parsing import ParsedFunction
from codet5p_jax.corpus.records import SourceFile

T = TypeVar("T")
Filter = Callable[[T], str | None]

_ALPHANUMERIC = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_GENERATED = re.compile(
    rb"do not edit|@generated|auto-?generated|generated (?:by|from|code|automatically)"
    rb"|automatically generated|machine generated",
    re.IGNORECASE,
)
_HEAD = 1_000  # bytes in which generators sign
_MINIFIED_PATH = re.compile(r"[.-](?:min|bundle|pack)\.[cm]?js$")
_VENDORED_PATH = re.compile(
    r"(?:^|/)(?:node_modules|bower_components|vendor|_?vendored?|third[_-]?party|external|extern"
    r"|deps|jquery-ui|site-packages)/"
)
_TEST_PATH = re.compile(
    r"(?:^|/)(?:tests?|specs?|testdata|fixtures?|__tests__|testing|unittests?)/"
    r"|[_.-](?:test|tests|spec)\.\w+$|(?:^|/)test_[^/]*$|Tests?\.(?:java|cs|php)$",
    re.IGNORECASE,
)
_TOKEN = re.compile(rb"\w+|[^\w\s]")
_NOT_PROSE = re.compile(
    r"^(?:@|\\\w|\{@|<inheritdoc|:\w|TODO|FIXME|XXX|NOTE\b|HACK|Deprecated[:.]|Obsolete[:;.]|eslint|jshint|noqa"
    r"|rubocop|nolint|go:|#\w|!|ditto\b|(?:same )?as above\.?$|https?://\S+$)"
    r"|^see (?:also|above|below|(?:the )?comments?\b|(?-i:[A-Z#])|https?:)"
    r"|copyright|licen[cs]ed? under|inheritdoc",
    re.IGNORECASE,
)
# A statement that was commented out: "total = count(a);", "if (done) {".
_CODE = re.compile(r"(?:\w+[\s*&]+)?[\w.>*&:\[\]-]+\s*[=(].*[;{}]")
_WORD = re.compile(r"[A-Za-z]{2,}")


def first_reason(filters: Iterable[Filter[T]], subject: T) -> str | None:
    """Returns the reason of the first filter that leaves `subject` out; None if all keep it."""
    return next((reason for keep in filters if (reason := keep(subject)) is not None), None)


def minified_path(path: str) -> str | None:
    """Leaves out files that are named as minified or bundled."""
    return "file: minified" if _MINIFIED_PATH.search(path) else None


def vendored_path(path: str) -> str | None:
    """Leaves out copies of other projects."""
    return "file: vendored" if _VENDORED_PATH.search(path) else None


def path_of_tests(path: str) -> str | None:
    """Leaves out tests and their data."""
    return "file: of tests" if _TEST_PATH.search(path) else None


def binary(file: SourceFile) -> str | None:
    """Leaves out files with a zero byte."""
    return "file: binary" if b"\0" in file.content else None


def not_utf8(file: SourceFile) -> str | None:
    """Leaves out files in other encodings."""
    try:
        file.content.decode("utf-8")
    except UnicodeDecodeError:
        return "file: not UTF-8"
    return None


def generated(file: SourceFile) -> str | None:
    """Leaves out files whose first kilobyte says that a program wrote them."""
    return "file: generated" if _GENERATED.search(file.content[:_HEAD]) else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongLines:
    """Leaves out files with long lines: minified code and data.

    Attributes:
        max_line: Longest line, in bytes.
        max_mean_line: Longest mean line, in bytes.
    """

    max_line: int = 1_000
    max_mean_line: float = 100

    def __call__(self, file: SourceFile) -> str | None:
        """Returns the reason, or None."""
        lengths = [len(line) for line in file.content.split(b"\n")]
        if sum(lengths) > self.max_mean_line * len(lengths):
            return "file: minified" if file.language == "javascript" else "file: long lines"
        return "file: over-long line" if max(lengths) > self.max_line else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewAlphanumerics:
    """Leaves out files of which less than `share` of the bytes are ASCII letters and digits."""

    share: float = 0.25

    def __call__(self, file: SourceFile) -> str | None:
        """Returns the reason, or None."""
        others = len(file.content.translate(None, delete=_ALPHANUMERIC))
        few = len(file.content) - others < self.share * len(file.content)
        return "file: few letters and digits" if few else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenCount:
    """Leaves out files with too few or too many tokens: words and single other characters."""

    minimum: int = 50
    maximum: int = 2_000

    def __call__(self, file: SourceFile) -> str | None:
        """Returns the reason, or None."""
        count = len(_TOKEN.findall(file.content))
        if count < self.minimum:
            return f"file: under {self.minimum} tokens"
        return f"file: over {self.maximum} tokens" if count > self.maximum else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FunctionLines:
    """Leaves out functions with too few or too many lines."""

    minimum: int = 3
    maximum: int = 400

    def __call__(self, function: ParsedFunction) -> str | None:
        """Returns the reason, or None."""
        lines = function.code.count("\n") + 1
        if lines < self.minimum:
            return f"function: under {self.minimum} lines"
        return f"function: over {self.maximum} lines" if lines > self.maximum else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordCount:
    """Leaves out documentation with too few or too many words."""

    minimum: int = 3
    maximum: int = 256

    def __call__(self, docstring: str) -> str | None:
        """Returns the reason, or None."""
        words = len(docstring.split())
        if words < self.minimum:
            return f"documentation: under {self.minimum} words"
        return f"documentation: over {self.maximum} words" if words > self.maximum else None


def not_prose(docstring: str) -> str | None:
    """Leaves out documentation that is a tag, a directive, code, a legal notice or has no words."""
    if _NOT_PROSE.search(docstring) or _CODE.fullmatch(docstring) or not _WORD.search(docstring):
        return "documentation: not prose"
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MostlyAscii:
    """Leaves out documentation of which less than `share` of the characters are ASCII."""

    share: float = 0.9

    def __call__(self, docstring: str) -> str | None:
        """Returns the reason, or None."""
        ascii_characters = len(docstring.encode("ascii", errors="ignore"))
        few = ascii_characters < self.share * len(docstring)
        return "documentation: not ASCII" if few else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filters:
    """The filters of a build.

    Attributes:
        paths: On the path of a file, before it is read.
        files: On a file; those that leave it out leave out its functions too.
        whole_files: On a file as a record of `code_files`; its functions are kept.
        functions: On a function.
        documentation: On its documentation; a function is kept without one that fails.
    """

    paths: tuple[Filter[str], ...] = (minified_path, vendored_path, path_of_tests)
    files: tuple[Filter[SourceFile], ...] = (
        *(binary, not_utf8, generated, LongLines(), FewAlphanumerics()),
    )
    whole_files: tuple[Filter[SourceFile], ...] = (TokenCount(),)
    functions: tuple[Filter[ParsedFunction], ...] = (FunctionLines(),)
    documentation: tuple[Filter[str], ...] = (not_prose, WordCount(), MostlyAscii())
