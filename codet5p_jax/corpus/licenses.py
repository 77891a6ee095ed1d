"""Licences of sources, normalised to SPDX names."""

import dataclasses
import fnmatch
import json
import re
from collections.abc import Iterable

# CodeT5+ (arXiv:2305.07922), section 4.1
PERMISSIVE = (
    *("MIT", "Apache-2.0", "BSD-3-Clause", "BSD-2-Clause", "CC0-1.0", "Unlicense", "ISC"),
)
UNKNOWN = "NOASSERTION"

_SPDX = (
    (r"expat\b|mit\b(?!-)|the mit license", "MIT"),
    (r"apache([ -]software)?( license)?[ ,-]*(version |v)?2(\.0)?", "Apache-2.0"),
    (r"apache software license$", "Apache-2.0"),  # the classifier names no version
    (r"(new |modified |revised )bsd|bsd[ -]*3|3-clause bsd|bsd-style|google-bsd", "BSD-3-Clause"),
    (r"(simplified |freebsd)|bsd[ -]*2|2-clause bsd", "BSD-2-Clause"),
    (r"bsd( license)?$", "BSD-3-Clause"),
    (r"cc0", "CC0-1.0"),
    (r"unlicense|the unlicense", "Unlicense"),
    (r"isc\b", "ISC"),
    (r"(python-2|psf)", "PSF-2.0"),
    (r"zlib", "Zlib"),
    (r"(mpl|mozilla).*2", "MPL-2.0"),
    (r"(gnu lesser|lgpl)", "LGPL-2.1-or-later"),
    (r"(gnu general|gpl)", "GPL-2.0-or-later"),
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
_WHEEL_HEADERS = (
    r"^License-Expression: (.+)$",
    r"^Classifier: License :: OSI Approved :: (.+)$",
    r"^License: (.{1,60})$",
)
_LICENSE_FILE = re.compile(r"(?:licen[cs]e|copying|mit-license)[^/]*", re.IGNORECASE)
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9.-]+")
_OPERATOR = re.compile(r"\s+(?:or|and)\s+", re.IGNORECASE)


def spdx(name: str) -> str:
    """Returns the SPDX expression of a licence as packages name it.

    "Expat" -> "MIT", "Apache License, Version 2.0 or MIT" -> "Apache-2.0 OR MIT"

    Unknown names become `LicenseRef-...`, an empty one `NOASSERTION`.
    """
    if not name.strip():
        return UNKNOWN
    operators = [operator.strip().upper() for operator in _OPERATOR.findall(name)]
    names = [_one_name(part) for part in _OPERATOR.split(name)]
    if len(set(names)) == 1:
        return names[0]
    rest = (f" {operator} {part}" for operator, part in zip(operators, names[1:], strict=True))
    return "".join([names[0], *rest])


def is_allowed(expression: str, allowed: Iterable[str] = PERMISSIVE) -> bool:
    """Whether an SPDX expression is met by licences of `allowed`; AND binds before OR."""
    licences = set(allowed)
    return any(
        all(name.strip("() ") in licences for name in alternative.split(" AND "))
        for alternative in expression.split(" OR ")
    )


def is_known(expression: str) -> bool:
    """Whether an SPDX expression names only licences that we know by name."""
    return expression != UNKNOWN and "LicenseRef-" not in expression


def license_of_text(text: str) -> str:
    """Returns the licence that the text of a LICENSE file holds, or `NOASSERTION`."""
    text = " ".join(text.lower().split())
    return next((name for name, parts in _TEXTS if all(p in text for p in parts)), UNKNOWN)


def is_license_file(path: str) -> bool:
    """Whether `path` is named like the licence of a whole repository: in its top folder."""
    return _LICENSE_FILE.fullmatch(path) is not None


def license_of_wheel(metadata: str) -> str:
    """Returns the licence in the METADATA file of a Python wheel or sdist."""
    headers = metadata.replace("\r\n", "\n").split("\n\n", 1)[0]
    stated = [
        spdx(name)
        for pattern in _WHEEL_HEADERS
        for name in re.findall(pattern, headers, re.MULTILINE)
    ]
    return next(filter(is_known, stated), stated[0] if stated else UNKNOWN)


def license_of_package_json(text: str) -> str:
    """Returns the licence in the package.json of an npm package."""
    try:
        package = json.loads(text)
    except json.JSONDecodeError:
        return UNKNOWN
    named = package.get("license", "") if isinstance(package, dict) else ""
    if isinstance(named, dict):
        named = named.get("type", "")
    return spdx(named) if isinstance(named, str) else UNKNOWN


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
        matching = (name for pattern, name in self.rules if fnmatch.fnmatchcase(path, pattern))
        return next(reversed([UNKNOWN, *matching]))


def _one_name(name: str) -> str:
    text = name.strip(" ,()").lower()
    for pattern, known in _SPDX:
        if re.match(pattern, text):
            return known
    return f"LicenseRef-{_NOT_A_NAME.sub('-', name.strip())[:60]}"
