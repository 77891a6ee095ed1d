"""Sources of code: packages, archives and directories, each one repository."""

import codecs
import dataclasses
import itertools
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator

from codet5p_jax.corpus import archives, licenses
from codet5p_jax.corpus.fetch import Fetched
from codet5p_jax.corpus.filters import Filters, first_reason
from codet5p_jax.corpus.languages import language_of
from codet5p_jax.corpus.records import SourceFile
from codet5p_jax.corpus.unpacking import ArchiveError, BombError

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA|PKG-INFO")
_DEBIAN_DOC = re.compile(r"usr/share/doc/[^/]+/copyright")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where the files of one repository lie.

    Attributes:
        name: Name of the repository.
        ecosystem: Where it comes from: apt, npm, pip, directory, archive or installed.
        version: Its version; empty if unknown.
        places: Archives, directories or single files.
        split: Split of all its files; None: each file by a hash of its path.
        license: SPDX expression for files whose licence it does not state.
        languages: What is read of it; nothing given means everything.
        max_bytes: Source text taken of it at most; None: all.
    """

    name: str
    ecosystem: str
    version: str = ""
    places: tuple[str, ...]
    split: str | None = None
    license: str | None = None
    languages: tuple[str, ...] = ()
    max_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Rejection:
    """Something that was left out, and why."""

    path: str
    reason: str


def source_of_package(fetched: Fetched, *, max_bytes: int) -> Source:
    """Returns the source of a package that was fetched; `max_bytes` where it sets none itself."""
    package = fetched.package
    return Source(
        name=package.name,
        ecosystem=package.ecosystem,
        version=fetched.version,
        places=fetched.archives,
        split=package.split,
        license=package.license,
        languages=package.languages,
        max_bytes=max_bytes if package.max_bytes is None else package.max_bytes,
    )


def with_unique_names(sources: Iterable[Source]) -> list[Source]:
    """Returns `sources`; of those that share a name, the second gets `-2` after it, and so on."""
    unique: dict[str, Source] = {}
    for source in sources:
        numbered = (f"{source.name}-{i}" for i in itertools.count(2))
        names = itertools.chain([source.name], numbered)
        name = next(name for name in names if name not in unique)
        unique[name] = dataclasses.replace(source, name=name)
    return list(unique.values())


def sources_of_path(path: str | os.PathLike[str], *, license: str | None = None) -> list[Source]:
    """Returns the repositories at `path`: an archive, a checkout, or a directory of either.

    A directory that is no git checkout holds one repository in each of its folders and archives.

    Raises:
        FileNotFoundError: Nothing is there.
    """
    place = pathlib.Path(path).resolve()
    if not place.exists():
        raise FileNotFoundError(f"The source {path} does not exist; give a directory or archive.")
    if place.is_file() or (place / ".git").exists():
        return [_source_at(place, license=license)]
    inner = [p for p in sorted(place.iterdir()) if p.is_dir() or archives.is_archive(p)]
    inner = [p for p in inner if not p.name.startswith(".")]
    if len(inner) < 2 or any(language_of(p.name) for p in place.iterdir()):
        return [_source_at(place, license=license)]
    return [_source_at(p, license=license) for p in inner]


def _source_at(place: pathlib.Path, *, license: str | None) -> Source:
    ecosystem = "directory" if place.is_dir() else "archive"
    return Source(name=place.name, ecosystem=ecosystem, places=(str(place),), license=license)


def read_source(
    source: Source, *, filters: Filters, allowed_licenses: Iterable[str] = licenses.PERMISSIVE
) -> Iterator[SourceFile | Rejection]:
    """Yields the files of `source` that pass, and a rejection for each other file of code.

    Lines end with a newline alone, and a byte order mark is taken off.
    """
    allowed = frozenset(allowed_licenses)
    taken = 0
    for path, content in _read_places(source, filters=filters, license_of=_license_rule(source)):
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
    for place in source.places:
        try:
            for member in archives.members(place):
                read = _read_member(member, source, filters=filters, license_of=license_of)
                if read is not None:
                    yield member.path, read
        except BombError:
            yield place, Rejection(place, "archive: a bomb")
        except ArchiveError as error:
            yield place, Rejection(place, f"archive: {type(error.__cause__ or error).__name__}")


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
    content = member.read().removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
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
