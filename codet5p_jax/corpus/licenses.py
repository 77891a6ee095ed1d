"""Licences as SPDX expressions: what packages say of themselves, and which are allowed."""

import dataclasses
import difflib
import fnmatch
import functools
import json
import re
from collections.abc import Iterable, Mapping

from boolean.boolean import ParseError
from license_expression import ExpressionError, Licensing, get_spdx_licensing

# CodeT5+ (arXiv:2305.07922), section 4.1
PERMISSIVE = (
    *("MIT", "Apache-2.0", "BSD-3-Clause", "BSD-2-Clause", "CC0-1.0", "Unlicense", "ISC"),
)
ANY = "any"  # in a list of allowed licences: whatever it is, known or not
UNKNOWN = "NOASSERTION"

# Names that SPDX does not know, as Debian, classifiers of Python and people write them. The first
# pattern that the whole name matches holds.
_VERSION = r"[ ,(-]*(version |v)?"
# Debian tells texts apart that differ in who is named: BSD-3-clause-Zend, Expat~2012.
_HOLDER = r"[-~](?!notice|patent|attribution|advertising|modified|no|with)\w+"
_FREE_NAMES = (
    (r"expat|(the )?(mit|expat)( licen[cs]e)?( mit)?|mit[ -]style", "MIT"),
    (rf"(the )?apache([ -]software)?([ -]licen[cs]e)?{_VERSION}2(\.0)?", "Apache-2.0"),
    (r"apache software license( apache[ -]2\.0)?", "Apache-2.0"),  # the classifier
    (r"(.*[ -])?bsd[ -]style|(.*[ -])?google-bsd", "BSD-3-Clause"),
    (rf"bsd-3(-clause)?{_HOLDER}", "BSD-3-Clause"),
    (rf"bsd-2(-clause)?{_HOLDER}", "BSD-2-Clause"),
    (rf"expat{_HOLDER}", "MIT"),
    (r"(the )?(new|modified|revised|3[ -]clause)[ -]bsd( licen[cs]e)?", "BSD-3-Clause"),
    (rf"(the )?bsd([ -]licen[cs]e)?({_VERSION}3([ -]clause)?)?( licen[cs]e)?", "BSD-3-Clause"),
    (r"(the )?(simplified|freebsd|2[ -]clause)([ -]bsd)?( licen[cs]e)?", "BSD-2-Clause"),
    (rf"(the )?bsd([ -]licen[cs]e)?{_VERSION}2([ -]clause)?( licen[cs]e)?", "BSD-2-Clause"),
    (r"cc0([ -]1(\.0)?)?( universal)?( cc0 1\.0)?( public domain dedication)?", "CC0-1.0"),
    (r"the unlicense( unlicense)?", "Unlicense"),
    (r"(the )?isc( licen[cs]e)?( iscl?)?", "ISC"),
    (r"(python software foundation|psf)([ -]licen[cs]e)?( psf)?([ -]2(\.0)?)?", "PSF-2.0"),
    (r"python-2", "Python-2.0"),
    (r"(the )?zlib( licen[cs]e)?", "Zlib"),
    (r"boost( software licen[cs]e)?[ -]*1(\.0)?( bsl-1\.0)?", "BSL-1.0"),
    (rf"(mpl|mozilla( public licen[cs]e)?){_VERSION}2(\.0)?( mpl 2\.0)?", "MPL-2.0"),
    (rf"(mpl|mozilla( public licen[cs]e)?){_VERSION}1\.1( mpl 1\.1)?", "MPL-1.1"),
    (r"artistic-1", "Artistic-1.0"),
)
_COMPOUNDS = (  # of one licence, though it reads like several
    (r"\b(?:mit|x11)/(?:x11|mit|expat)\b", "MIT"),
    (r"\bzlib/libpng\b", "Zlib"),
    (r"\blibrary or lesser\b", "lesser"),
    (r",? or(?: \(at your option\))?[ -](?:any )?(?:later|newer|greater)(?: version)?", "+"),
)
_GNU_WORDS = (
    (r"\b(?:gnu )?affero (?:gnu )?general public licen[cs]e", "agpl"),
    (r"\b(?:gnu )?(?:lesser|library) (?:gnu )?general public licen[cs]e", "lgpl"),
    (r"\b(?:gnu )?general public licen[cs]e", "gpl"),
)
_GNU = re.compile(r"(?:gnu )?([al]?gpl)\W*(?:version |v)?\s*(\d)?(\.\d)?\s*(\+?)( only)?( \1\S*)?")
_TITLES = (
    (r"gnu affero general public license version 3", "AGPL-3.0-only"),
    (r"gnu lesser general public license version (2\.1|3)", "LGPL-{}-only"),
    (r"gnu general public license version (2|3)", "GPL-{}-only"),
    (r"mozilla public license version 2\.0", "MPL-2.0"),
)
_TEXTS = (
    ("MIT", ("permission is hereby granted, free of charge", "the above copyright notice and")),
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "neither the name")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software for any",)),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",)),
    ("CC0-1.0", ("cc0 1.0 universal",)),
)
_CLASSIFIER = re.compile(r"^Classifier: License :: (?:OSI Approved :: )?(.+)$", re.MULTILINE)
_LICENSE_FILE = re.compile(r"(?:licen[cs]e|copying|mit-license)[^/]*", re.IGNORECASE)
# The parser of expressions checks some of its steps alone.
_NO_EXPRESSION = (ExpressionError, ParseError, AssertionError, IndexError, RecursionError)
_LONGEST_NAME = 10_000  # characters; the patterns take time as the square of them
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9.-]+")
_SYNTAX = re.compile(r"(\(|\)|\s+(?:or|and|with)\s+|\s*[/|]\s*)", re.IGNORECASE)
_OPERATORS = {"/": "OR", "|": "OR", "or": "OR", "and": "AND", "with": "WITH"}
_UNKNOWN_EXCEPTION = re.compile(r" WITH LicenseRef-[\w.-]+")
_LOOSE = re.compile(r",\s+(or|and)\s+", re.IGNORECASE)
_REMARK = re.compile(r"(?<![(\s])\s*(?<!\bor)(?<!\band)(?<!\bwith)\s\(([^()]*)\)", re.IGNORECASE)


@functools.lru_cache(maxsize=10_000)
def spdx(name: str) -> str:
    """Returns the SPDX expression of a licence as packages name it.

    "Expat" -> "MIT", "Apache License, Version 2.0 or MIT" -> "Apache-2.0 OR MIT",
    "GPL-2+ or Artistic-2.0, and BSD" -> "(GPL-2.0-or-later OR Artistic-2.0) AND BSD-3-Clause"

    Unknown names become `LicenseRef-...`, an empty one `NOASSERTION`.
    """
    text = " ".join(name.split())
    if not text:
        return UNKNOWN
    if len(text) > _LONGEST_NAME:
        return _reference(text[:_LONGEST_NAME])
    if text.lower() in _spdx_names(False):
        return _spdx_names(False)[text.lower()]
    for pattern, one in _COMPOUNDS:
        text = re.sub(pattern, one, text, flags=re.IGNORECASE)
    loose = _LOOSE.split(text)  # Debian: an operator behind a comma binds last
    if len(loose) > 1:
        loose[::2] = [f"({part})" for part in loose[::2]]
        text = " ".join(loose)
    else:
        text = _REMARK.sub(r" \1", text)
    try:
        return str(_licensing().dedup(_expression(text)))
    except _NO_EXPRESSION:
        return _reference(name)


def _expression(text: str) -> str:
    """`text` with an SPDX name in place of each name between its operators and parentheses."""
    parts: list[str] = []
    for part in _SYNTAX.split(text):
        word = part.strip()
        after_with = bool(parts) and parts[-1] == "WITH"
        if word.lower() in _OPERATORS:
            parts.append(_OPERATORS[word.lower()])
        elif word in ("(", ")"):
            parts.append(word)
        elif word:
            parts.append(_exception(word) if after_with else _one_name(word))
    return " ".join(parts)


@functools.cache
def _licensing() -> Licensing:
    return get_spdx_licensing()


@functools.cache
def _spdx_names(exceptions: bool) -> Mapping[str, str]:
    """The names that SPDX knows, in lower case and old ones too, and how they are written."""
    symbols = _licensing().known_symbols.values()
    wanted = [s for s in symbols if s.is_exception == exceptions and _is_name(s.key)]
    return {name.lower(): s.key for s in wanted for name in (*s.aliases, s.key)}


def _is_name(key: str) -> bool:
    return not key.startswith("LicenseRef-")


def _known_name(name: str) -> str | None:
    """The SPDX name of one licence, or None."""
    text = name.strip(" ,.;").lower()
    names = _spdx_names(False)
    for version in (text, re.sub(r"-(\d)(\+?)$", r"-\1.0\2", text)):
        if version in names:
            return names[version]
    for pattern, known in _FREE_NAMES:
        if re.fullmatch(pattern, text):
            return known
    return _gnu_name(text)


def _gnu_name(text: str) -> str | None:
    for words, short in _GNU_WORDS:
        text = re.sub(words, short, text)
    if (found := _GNU.fullmatch(text)) is None:
        return None
    kind, major, minor, later = found.group(1).upper(), *found.groups("")[1:4]
    if not major:
        major, later = {"GPL": "1", "LGPL": "2", "AGPL": "1"}[kind], "+"  # no version means any
    if (found.group(6) or "").endswith("+"):
        later = "+"
    return _spdx_names(False).get(f"{kind}-{major}{minor or '.0'}{later}".lower())


def _one_name(name: str) -> str:
    return _known_name(name) or _reference(name)


def _exception(name: str) -> str:
    stem = re.sub(r"[ -]exception$", "", name.lower())
    for key, written in _spdx_names(True).items():
        if re.fullmatch(rf"{re.escape(stem)}([ -]exception)?(-\d\.\d)?", key):
            return written
    return _reference(name)


def _reference(name: str) -> str:
    if name == UNKNOWN:
        return name
    own = _NOT_A_NAME.sub("-", name.removeprefix("LicenseRef-"))[:60].strip("-")
    return f"LicenseRef-{own or 'unnamed'}"


def all_of(names: Iterable[str]) -> str:
    """Returns the expression of something under all of these licences; none is `NOASSERTION`."""
    return _joined(names, "AND")


def _joined(names: Iterable[str], operator: str) -> str:
    found = list(dict.fromkeys(spdx(name) for name in names))
    return spdx(
        f" {operator} ".join(f"({name})" for name in found) if found[1:] else "".join(found)
    )


@functools.lru_cache(maxsize=100_000)
def _is_allowed(expression: str, allowed: frozenset[str]) -> bool:
    if ANY in allowed or expression in allowed:
        return True
    try:
        parsed = _licensing().parse(expression)
    except _NO_EXPRESSION:
        return False
    return False if parsed is None else _holds(parsed, allowed)


def _holds(node: object, allowed: frozenset[str]) -> bool:
    parts = (_holds(part, allowed) for part in getattr(node, "args", ()))
    if isinstance(node, _licensing().OR):
        return any(parts)
    if isinstance(node, _licensing().AND):
        return all(parts)
    licence = getattr(node, "license_symbol", node)  # an exception only adds permissions
    return str(node) in allowed or str(licence) in allowed


def is_allowed(expression: str, allowed: Iterable[str] = PERMISSIVE) -> bool:
    """Whether the licences of `allowed` meet an SPDX expression: one side of OR, both of AND.

    A licence WITH an exception is allowed where the licence is, or the two together. `ANY` allows
    everything.
    """
    return _is_allowed(expression, frozenset(allowed))


def parse_allowed(names: str | Iterable[str]) -> tuple[str, ...]:
    """Returns the licences of a list such as "permissive,MPL-2.0"; "any" is every licence.

    Args:
        names: Names of SPDX in any case, and "permissive" and "any"; text is split at commas.

    Raises:
        ValueError: A name is none of SPDX; the message names the nearest.
    """
    parts = names.split(",") if isinstance(names, str) else names
    allowed = [name for part in parts if part.strip() for name in _allowed_names(part.strip())]
    if not allowed:
        raise ValueError(
            "No licences are allowed, so nothing would be kept: give permissive, any, or names of "
            "SPDX such as MIT,MPL-2.0."
        )
    return (ANY,) if ANY in allowed else tuple(dict.fromkeys(allowed))


def _allowed_names(name: str) -> tuple[str, ...]:
    if name.lower() == "permissive":
        return PERMISSIVE
    if name.lower() == ANY:
        return (ANY,)
    expression = spdx(name)
    if not is_known(expression) and not name.startswith("LicenseRef-") and name != UNKNOWN:
        names = {**_spdx_names(False), "permissive": "permissive", ANY: ANY}
        nearest = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.4)
        guess = f" Did you mean {names[nearest[0]]}?" if nearest else ""
        raise ValueError(
            f"Unknown licence {name!r}.{guess} Give permissive, any, or names of SPDX such as "
            "MIT,MPL-2.0; a name that only your source uses is LicenseRef-NAME."
        )
    return (expression,)


def is_known(expression: str) -> bool:
    """Whether an SPDX expression names only licences that we know by name, whatever exceptions."""
    licences = _UNKNOWN_EXCEPTION.sub("", expression)  # they only add permissions
    return UNKNOWN not in licences and "LicenseRef-" not in licences


def license_of_text(text: str) -> str:
    """Returns the licence that the text of a LICENSE file holds, or `NOASSERTION`."""
    text = " ".join(text.lower().split())
    title = text[:200].replace(",", "").replace("*", "")
    for pattern, name in _TITLES:
        if found := re.search(pattern, title):
            return name.format(*(f"{v}.0" if len(v) == 1 else v for v in found.groups()))
    return next((name for name, parts in _TEXTS if all(p in text for p in parts)), UNKNOWN)


def is_license_file(path: str) -> bool:
    """Whether `path` is named like the licence of a whole repository: in its top folder."""
    return _LICENSE_FILE.fullmatch(path) is not None


def license_of_wheel(metadata: str) -> str:
    """Returns the licence in the METADATA file of a Python wheel or sdist.

    An expression goes before classifiers, of which all hold, and these before free text.
    """
    headers = metadata.replace("\r\n", "\n").split("\n\n", 1)[0]
    stated = [
        *map(spdx, re.findall(r"^License-Expression: (.+)$", headers, re.MULTILINE)),
        all_of(name for name in _CLASSIFIER.findall(headers) if name != "OSI Approved"),
        *map(spdx, re.findall(r"^License: (.{1,60})$", headers, re.MULTILINE)),
    ]
    named = [name for name in stated if name != UNKNOWN]
    return next(filter(is_known, named), named[0] if named else UNKNOWN)


def license_of_package_json(text: str) -> str:
    """Returns the licence in the package.json of an npm package; of an old list, any one."""
    try:
        package = json.loads(text)
    except (ValueError, RecursionError):  # of numbers of 5,000 digits, of a thousand brackets
        return UNKNOWN
    if not isinstance(package, dict):
        return UNKNOWN
    stated = package.get("license") or package.get("licenses") or []
    listed = stated if isinstance(stated, list) else [stated]
    named = [name.get("type") if isinstance(name, dict) else name for name in listed]
    return _joined((name for name in named if isinstance(name, str)), "OR")


@dataclasses.dataclass(frozen=True)
class DebianCopyright:
    """A debian/copyright file in the format DEP-5: which licence holds for which files.

    Attributes:
        rules: (pattern of paths, SPDX expression); the last rule that matches holds.
    """

    rules: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> "DebianCopyright":
        """Returns the rules of a debian/copyright file; none if it has another format."""
        rules = []
        for stanza in re.split(r"\n\s*\n", text):
            files = re.search(r"^Files:((?:.*\n?)(?:[ \t].*\n?)*)", stanza, re.MULTILINE)
            named = re.search(r"^License:[ \t]*(.+)$", stanza, re.MULTILINE)
            if files and named:
                rules += [(pattern, spdx(named.group(1))) for pattern in files.group(1).split()]
        return cls(tuple(rules))

    def license_of(self, path: str) -> str:
        """Returns the licence of the file at `path`, relative to the source's root."""
        matching = (name for pattern, name in self.rules if _matches(path, pattern))
        return next(reversed([UNKNOWN, *matching]))

    def license_of_all(self) -> str:
        """Returns the licence of a file whose place in the source is not known: all together."""
        return all_of(name for pattern, name in self.rules if not pattern.startswith("debian/"))


def _matches(path: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(path, pattern.replace("[", "[[]"))  # DEP-5 knows * and ? alone
