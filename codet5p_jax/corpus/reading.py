"""The files of a source, with their licences, and what is left out of it."""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator

from codet5p_jax.corpus import archives, licenses
from codet5p_jax.corpus.filters import Filters, first_reason
from codet5p_jax.corpus.languages import language_of
from codet5p_jax.corpus.records import SourceFile
from codet5p_jax.corpus.row_reading import read_rows_of, with_plain_line_ends
from codet5p_jax.corpus.sources import Rejection, Source
from codet5p_jax.corpus.unpacking import ArchiveError

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA|PKG-INFO")
_DEBIAN_DOC = re.compile(r"usr/share/doc/[^/]+/copyright")


def read_source(
    source: Source, *, filters: Filters, allowed_licenses: Iterable[str] = licenses.PERMISSIVE
) -> Iterator[SourceFile | Rejection]:
    """Yields the files of `source` that pass, and a rejection for each other file of code.

    Lines end with a newline alone, and a byte order mark is taken off.

    Raises:
        ValueError: It is a file of rows that lacks columns.
    """
    allowed = frozenset(allowed_licenses)
    taken = 0
    if source.rows is None:
        found = _read_places(source, filters=filters, license_of=_license_rule(source))
    else:
        found = read_rows_of(source, source.rows, filters=filters)
    for path, content in found:
        if isinstance(content, Rejection):
            yield content
        elif source.max_bytes is not None and taken + len(content.content) > source.max_bytes:
            yield Rejection(path, "file: beyond the share of its source")
        elif not licenses.is_allowed(content.license, allowed):
            yield Rejection(path, f"licence: {content.license}")
        elif (reason := first_reason(filters.files, content)) is not None:
            yield Rejection(path, reason)
        else:
            taken += len(content.content)
            yield content


def _read_places(
    source: Source, *, filters: Filters, license_of: Callable[[str], str]
) -> Iterator[tuple[str, SourceFile | Rejection]]:
    times: collections.Counter[str] = collections.Counter()  # an archive may repeat a path
    for place in source.places:
        try:
            for member in archives.members(place):
                read = _read_member(member, source, filters=filters, license_of=license_of)
                if isinstance(read, SourceFile):
                    times[read.path] += 1
                    if (number := times[read.path]) > 1:
                        read = dataclasses.replace(read, origin=f"{number}#")
                if read is not None:
                    yield member.path, read
        except ArchiveError as error:
            yield place, Rejection(place, error.reason)


def _read_member(
    member: archives.Member,
    source: Source,
    *,
    filters: Filters,
    license_of: Callable[[str], str],
) -> SourceFile | Rejection | None:
    if language_of(member.path) is None and member.refused in (None, archives.TOO_LARGE):
        return None  # what an archive should not hold is told whatever it is called
    reason = member.refused or first_reason(filters.paths, member.path)
    if reason is not None:
        return Rejection(member.path, reason)
    content = with_plain_line_ends(member.read())
    language = language_of(member.path, content)
    if language is None or (source.languages and language not in source.languages):
        return None
    return SourceFile(
        content=content,
        repository=source.name,
        path=member.path,
        license=license_of(member.path),
        language=language,
    )


def _license_rule(source: Source) -> Callable[[str], str]:
    """A function from the path of a file to its licence, after what the source says of itself."""
    debian = [place for place in source.places if ".debian.tar." in place]
    rules = _debian_copyright(debian[0]) if debian else licenses.DebianCopyright(())
    general = licenses.UNKNOWN
    if not licenses.is_known(rules.license_of("*")):
        stated = (_stated_license(place) for place in source.places if place not in debian)
        general = next((name for name in stated if licenses.is_known(name)), licenses.UNKNOWN)
    if not licenses.is_known(general) and source.license is not None:
        general = licenses.spdx(source.license)

    def license_of(path: str) -> str:
        own = rules.license_of(path)
        return own if licenses.is_known(own) or general == licenses.UNKNOWN else general

    return license_of


def _debian_copyright(place: str) -> licenses.DebianCopyright:
    text = _first_text(place, lambda path: path == "copyright")
    return licenses.DebianCopyright.parse(text)


def _stated_license(place: str) -> str:
    """What a place says of all its files; the first of its statements that is known."""
    if not (pathlib.Path(place).is_dir() or archives.is_archive(place)):
        return licenses.UNKNOWN
    if place.endswith(".deb"):
        text = _first_text(place, _DEBIAN_DOC.fullmatch)
        return licenses.DebianCopyright.parse(text).license_of_all()
    statements = (read(_first_text(place, wanted)) for wanted, read in _statements(place))
    return next((name for name in statements if licenses.is_known(name)), licenses.UNKNOWN)


def _statements(place: str) -> list[tuple[Callable[[str], object], Callable[[str], str]]]:
    """Where a place may say its licence, and how that is read."""
    metadata = (_METADATA.fullmatch, licenses.license_of_wheel)
    package = ("package.json".__eq__, licenses.license_of_package_json)
    text = (licenses.is_license_file, licenses.license_of_text)
    if place.endswith(".whl"):
        return [metadata]
    if place.endswith(".tgz"):
        return [package, text]
    return [text, package] if pathlib.Path(place).is_dir() else [text]


def _first_text(place: str, wanted: Callable[[str], object]) -> str:
    """The text of the first member whose path is wanted; empty if there is none."""
    try:
        for member in archives.members(place):
            if member.refused is None and wanted(member.path):
                return member.read().decode(errors="replace")
    except ArchiveError:
        return ""  # reading its files reports the error
    return ""
