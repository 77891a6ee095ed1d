"""The records of a corpus, from raw bytes to what the datasets hold."""

import collections
import dataclasses
import hashlib
from collections.abc import Mapping

FILE_FEATURES = ("code", "language", "license", "path", "repository")
FUNCTION_FEATURES = (
    *("code", "docstring", "id", "language", "license", "name", "path", "repository"),
)
SPLITS = ("train", "validation", "test")

Counts = collections.Counter[tuple[str, str]]  # (what is counted, its name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a source, as it was read.

    Attributes:
        content: Its bytes.
        repository: Name of the package or repository; the unit that is split and held out.
        path: Path inside the repository, with forward slashes.
        license: SPDX expression.
        language: Name of the programming language, a key of `languages.LANGUAGES`.
        whole: Whether it is a whole file, not one function of it.
        origin: Which of several of the same repository and path it is, as rows of data sets and
            members of archives may be; empty for the first of an archive.
    """

    content: bytes
    repository: str
    path: str
    license: str
    language: str
    whole: bool = True
    origin: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeFile:
    """A record of the dataset `code_files`."""

    code: str
    language: str
    license: str
    repository: str
    path: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeFunction:
    """A record of the dataset `code_functions`.

    Attributes:
        code: The function, its documentation cut out.
        docstring: First paragraph of its documentation; empty when it has none that passes.
        name: The function's own name, without class or namespace.
        language: As in `SourceFile`, like the following three.
        license: SPDX expression.
        repository: Name of the repository.
        path: Path of the file inside the repository.
        id: `code_id` of the code.
    """

    code: str
    docstring: str
    name: str
    language: str
    license: str
    repository: str
    path: str
    id: str


Record = CodeFile | CodeFunction


def code_id(code: str) -> str:
    """Returns 16 hex digits of the SHA-256 of `code` without whitespace.

    Files and functions that differ in whitespace only have the same id.
    """
    return hashlib.sha256(b"".join(code.encode().split())).hexdigest()[:16]


def fields_of(record: Record) -> Mapping[str, str]:
    """Returns the fields of `record` by name."""
    return record.__dict__
