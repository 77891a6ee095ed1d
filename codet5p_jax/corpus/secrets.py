"""Secrets and e-mail addresses in source code, replaced by placeholders.

The patterns and the checks of what they find are those of detect-secrets, so its updates reach us.
Its scan goes line by line with every pattern, 60 times as long as parsing may take; here a pattern
sees a whole file, and the slow ones only one with a hint of them. See docs/corpus.md for what is
left out and why.
"""

import collections
import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.filters import heuristic
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.high_entropy_strings import (
    Base64HighEntropyString,
    HexHighEntropyString,
)
from detect_secrets.plugins.keyword import DENYLIST, KeywordDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector

SECRET = "<SECRET>"
EMAIL = "<EMAIL>"
EMAIL_KIND = "E-mail address"
KEYWORD_KIND = KeywordDetector.secret_type

# Public addresses in code are versions, section numbers and 0.0.0.0, but for a few in 900.
NOT_USED = frozenset({"IPPublicDetector"})

# What text must hold before the patterns of a detector are tried: those that start with no literal
# take up to a hundred times as long. In lower case for a detector with a pattern that ignores
# case. A detector that is not named is always tried.
_HINTS = {
    "ArtifactoryDetector": (r"AKC[a-zA-Z0-9]{10}", r"AP[\dA-F][a-zA-Z0-9]{8}"),
    "AWSKeyDetector": (r"a(?:3t|bia|cca|kia|sia)[0-9a-z]{16}", r"aws"),
    "CloudantDetector": (
        r"cl(?:oudant|ou)?[_-]?(?:api)?(?:key|pwd|pw|pass|token)",
        r"\.cloudant\.com",
    ),
    "DiscordBotTokenDetector": (r"\.[a-zA-Z\d_-]{6}\.[a-zA-Z\d_-]{27}",),
    "GitHubTokenDetector": (r"gh[pousr]_",),
    "GitLabTokenDetector": (r"gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent|oas)-", r"GR1348941"),
    "IbmCloudIamDetector": tuple(
        rf"{word}[\"'\] :=>]+[\w-]{{44}}" for word in ("key", "pwd", "pass(?:word)?", "token")
    ),
    "IbmCosHmacDetector": (r"secret[-_]?(?:access)?[-_]?key",),
    "MailchimpDetector": (r"-us\d",),
    "NpmDetector": (r"_authToken=",),
    "PrivateKeyDetector": (r"PRIVATE KEY", r"PuTTY-User-Key-File"),
    "PypiTokenDetector": (r"pypi-Ag",),
    "SlackDetector": (r"xox[a-z]-", r"hooks\.slack\.com"),
    "SoftlayerDetector": (r"softlayer", r"sl[_-]?(?:api)?[_-]?(?:key|pwd|pass|token)"),
    "StripeDetector": (r"k_live_",),
    "TelegramBotTokenDetector": (r":[0-9A-Za-z_-]{35}",),
}
_NOT_SECRET = (
    heuristic.is_not_alphanumeric_string,
    heuristic.is_sequential_string,
    heuristic.is_templated_secret,
)
_TEMPLATE_START = tuple("%{<$#")  # "%s", "{password}": the secret is elsewhere
_TOKEN = re.compile(r"[\w.+/-]+=*")
_NO_BOUNDARY = re.compile(r"[\s=:\"']*([^\s\"'`]*)")
_REST_OF_TOKEN = re.compile(r"[\w-]*(?:\.[\w-]{16,})?")  # a JWT's signature, a longer token's end

_KEY_END = re.compile(r"END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?|Private-MAC: ?\w+")
_KEY_MATERIAL = re.compile(r"(?=[a-z/+]*[A-Z0-9])(?=[A-Z0-9/+]*[a-z])[A-Za-z0-9+/]{32}")
_KEY_LENGTH = 20_000  # characters; RSA of 16384 bits takes 13,000

# An assignment to a name that sounds secret, of a long quoted word.
_ASSIGNED = tuple(
    re.compile(
        rf"{name}\w*[\"'\]]{{0,2}}\s*(?::=|[!=]?==?|=>|:)\s*@?([\"'])([\w+/=-]{{16,}})\1", re.ASCII
    )
    for name in ("key", "pass", "pwd", "secret")
)
_SECRET_NAME = re.compile("|".join(DENYLIST))
_LONGEST_PREFIX = len("database_")  # of a name in that list
_ENTROPIES = (Base64HighEntropyString(), HexHighEntropyString())

_DOMAIN = re.compile(r"@((?:[A-Za-z0-9-]+\.)+)([A-Za-z]{2,18})(?![\w(\[=-]|\.\w)", re.ASCII)
_LOCAL_REVERSED = re.compile(r"[\w.+-]*[A-Za-z0-9_](?!//|[\w.+%}$)\]-])", re.ASCII)
_LONGEST_LOCAL = 64
_NO_TOP_LEVEL = re.compile(
    r"css|example|gif|html|invalid|jpe?g|json|jsx?|local|localhost|mjs|php|png|svg|test|tsx?|txt"
    r"|webp|xml"
)
_RESERVED = re.compile(r"(?:^|\.)example\.$", re.IGNORECASE)  # RFC 2606: nobody's
_NO_PERSON = frozenset({"git", "hg", "svn"})  # git@github.com:owner/name


class _Span(NamedTuple):
    start: int
    end: int
    kind: str


def scrub(text: str) -> tuple[str, collections.Counter[str]]:
    """Returns `text` with secrets and e-mail addresses replaced, and how many of each kind.

    Secrets become `SECRET`, addresses `EMAIL`; kinds are `secret_type` of detect-secrets, or
    `EMAIL_KIND`. Text that was scrubbed stays as it is.
    """
    lowered = text.lower()
    found: list[_Span] = [*_secrets(text, lowered), *_assigned(text, lowered), *_emails(text)]
    spans = _disjoint(found)
    parts, at = [], 0
    for span in spans:
        parts += [text[at : span.start], EMAIL if span.kind == EMAIL_KIND else SECRET]
        at = span.end
    return "".join([*parts, text[at:]]), collections.Counter(span.kind for span in spans)


def used_detectors() -> tuple[type[RegexBasedDetector], ...]:
    """Returns the detectors of detect-secrets whose patterns are looked for, by name."""
    found: list[type] = list(get_mapping_from_secret_type_to_class().values())
    used = (c for c in found if issubclass(c, RegexBasedDetector) and c.__name__ not in NOT_USED)
    return tuple(sorted(used, key=lambda detector: detector.__name__))


class _Detector(NamedTuple):
    """A detector of detect-secrets, and what must be in text before it is tried.

    Attributes:
        detector: An instance.
        patterns: Its own, of secrets.
        hints: Patterns, of which one must be found; none: it is always tried.
        ignores_case: Whether they are looked for in lower-cased text.
    """

    detector: RegexBasedDetector
    patterns: tuple[re.Pattern[str], ...]
    hints: tuple[re.Pattern[str], ...]
    ignores_case: bool


@functools.cache
def _detectors() -> tuple[_Detector, ...]:
    found = []
    for detector in used_detectors():
        patterns = tuple(getattr(detector, "denylist"))  # noqa: B009  (typed as a method)
        hints = (re.compile(hint, re.ASCII) for hint in _HINTS.get(detector.__name__, ()))
        ignores_case = any(pattern.flags & re.IGNORECASE for pattern in patterns)
        found.append(_Detector(detector(), patterns, tuple(hints), ignores_case))
    return tuple(found)


def _disjoint(spans: list[_Span]) -> list[_Span]:
    """Of spans that overlap, the first; of those that start together, the longest secret."""
    kept: list[_Span] = []
    for span in sorted(spans, key=lambda span: (span.start, span.kind == EMAIL_KIND, -span.end)):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


def _secrets(text: str, lowered: str) -> Iterator[_Span]:
    for detector, patterns, hints, ignores_case in _detectors():
        hinted = lowered if ignores_case else text
        if hints and not any(hint.search(hinted) for hint in hints):
            continue
        place = _key_block if isinstance(detector, PrivateKeyDetector) else _place
        for pattern in patterns:
            for found in pattern.finditer(text):
                if (span := place(detector, found)) is not None:
                    yield _Span(*span, kind=detector.secret_type)


def _place(detector: RegexBasedDetector, found: re.Match[str]) -> tuple[int, int] | None:
    """Where the secret lies in what a pattern found; None if it is none."""
    if next(iter(detector.analyze_string(found.group())), None) is None:
        return None  # some check more than the pattern
    groups = [number for number, group in enumerate(found.groups(), start=1) if group]
    if not groups or _TOKEN.fullmatch(found.group()):
        start, end = found.span()  # the group of a GitHub token is its prefix alone
    else:
        start, end = found.span(max(groups, key=lambda number: len(found.group(number))))
    word = _NO_BOUNDARY.match(found.string, start, end)
    if word is None or not word.group(1) or _is_no_secret(word.group(1)):
        return None
    rest = _REST_OF_TOKEN.match(found.string, word.end(1))
    return word.start(1), word.end(1) if rest is None else rest.end()


def _is_no_secret(word: str) -> bool:
    return word.startswith(_TEMPLATE_START) or any(is_none(word) for is_none in _NOT_SECRET)


def _key_block(_: RegexBasedDetector, found: re.Match[str]) -> tuple[int, int] | None:
    """The whole of a private key; None for a header without a key."""
    end = _KEY_END.search(found.string, found.end(), found.end() + _KEY_LENGTH)
    if end is None or _KEY_MATERIAL.search(found.string, found.end(), end.start()) is None:
        return None
    return found.start(), end.end()


def _assigned(text: str, lowered: str) -> Iterator[_Span]:
    """Secrets by name and entropy: one alone is wrong nineteen times in twenty."""
    if len(lowered) != len(text):  # a few letters are longer in lower case
        lowered = text
    for pattern in _ASSIGNED:
        for found in pattern.finditer(lowered):
            start, end = found.span(2)
            word = text[start:end]
            named = _SECRET_NAME.search(lowered, max(0, found.start() - _LONGEST_PREFIX), start)
            if named and _is_random(word) and not _is_no_secret(word):
                yield _Span(start, end, kind=KEYWORD_KIND)


def _is_random(word: str) -> bool:
    return any(
        set(word) <= set(measure.charset)
        and measure.calculate_shannon_entropy(word) > measure.entropy_limit
        for measure in _ENTROPIES
    )


def _emails(text: str) -> Iterator[_Span]:
    for found in _DOMAIN.finditer(text) if "@" in text else ():
        before = text[max(0, found.start() - _LONGEST_LOCAL - 2) : found.start()]
        local = _LOCAL_REVERSED.match(before[::-1])
        if local is None or len(local.group()) > _LONGEST_LOCAL:
            continue
        start = found.start() - local.end()
        start += text[start - 1 : start] == "\\"  # "\nname@host.com"
        nobody = _NO_TOP_LEVEL.fullmatch(found[2].lower()) or _RESERVED.search(found[1])
        name = text[start : found.start()]
        if name and not nobody and name.lower() not in _NO_PERSON:
            yield _Span(start, found.end(), kind=EMAIL_KIND)
