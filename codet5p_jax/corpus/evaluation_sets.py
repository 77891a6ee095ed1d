"""Evaluation sets as text: what training must not have seen.

A set is a file or a folder. Of JSON lines and JSON files (also gzipped) every string in every field
counts, whatever the fields are called, so HumanEval, MBPP, CodeSearchNet and CoNaLa need no
description; any other file is one text, as it stands. Names of repositories are the lines of a
`repositories.txt`, and the fields `repo`, `repository`, `repo_name` and `nwo`.
"""

import dataclasses
import gzip
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

REPOSITORIES = "repositories.txt"
_REPOSITORY_FIELDS = frozenset({"repo", "repository", "repo_name", "nwo"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A problem, a function, a file: what an evaluation set asks once.

    Attributes:
        texts: Its texts.
        repositories: The repositories that it names.
    """

    texts: tuple[str, ...]
    repositories: tuple[str, ...] = ()


def name_of(path: str | os.PathLike[str]) -> str:
    """Returns the name of the set at `path`: that of its file or folder without endings."""
    return pathlib.Path(path).resolve().name.partition(".")[0]


def read_items(path: str | os.PathLike[str]) -> Iterator[Item]:
    """Yields the items of an evaluation set, in a fixed order.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: A JSON file is none.
    """
    for file in _files(path):
        if file.name == REPOSITORIES:
            yield Item(texts=(), repositories=tuple(read_names(file)))
            continue
        content = _content(file)
        kind = file.name.lower().removesuffix(".gz").rpartition(".")[2]
        if kind == "jsonl":
            lines = content.split(b"\n")  # str.splitlines would split inside of strings
            yield from (_item(_parsed(line, file)) for line in lines if line.strip())
        elif kind == "json":
            value = _parsed(content, file)
            yield from map(_item, value if isinstance(value, list) else [value])
        elif b"\0" not in content:
            yield Item(texts=(content.decode("utf-8", errors="replace"),))


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """Returns the names in a text file: one a line, `#` starts a comment.

    Raises:
        FileNotFoundError: There is no such file.
    """
    place = pathlib.Path(path)
    if not place.is_file():
        raise FileNotFoundError(
            f"No file of names of repositories at {path}: give one, a name a line."
        )
    lines = place.read_text(encoding="utf-8").splitlines()
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def content_digest(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Returns a hash of the names and the content of evaluation sets."""
    found = hashlib.sha256()
    for path in paths:
        found.update(name_of(path).encode())
        for file in _files(path):
            found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:16]


def _files(path: str | os.PathLike[str]) -> list[pathlib.Path]:
    place = pathlib.Path(path)
    if not place.exists():
        raise FileNotFoundError(
            f"No evaluation set at {path}: give a folder or a file of code, JSON or JSON lines."
        )
    if place.is_file():
        return [place]
    files = (file for file in place.rglob("*") if file.is_file())
    return sorted(f for f in files if not _is_hidden(f.relative_to(place)))


def _is_hidden(path: pathlib.PurePath) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _content(file: pathlib.Path) -> bytes:
    content = file.read_bytes()
    return gzip.decompress(content) if file.suffix.lower() == ".gz" else content


def _parsed(text: bytes, file: pathlib.Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is one too
        raise ValueError(f"{file} is no JSON: {error}; remove or rename it.") from error


def _item(value: Any) -> Item:
    named = value.items() if isinstance(value, dict) else ()
    names = (text for key, text in named if key in _REPOSITORY_FIELDS)
    repositories = tuple(text for text in names if isinstance(text, str) and text)
    return Item(texts=tuple(_strings(value)), repositories=repositories)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
