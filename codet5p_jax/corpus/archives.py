"""Members of archives and directories, one after another, never unpacked to disk.

Read are tar (plain, gz, bz2, xz), npm's tgz, zip and wheels, directories and single source files.
A member that climbs out of its archive, is a link or too large is refused: it is yielded with the
reason, unread.
"""

import dataclasses
import functools
import lzma
import os
import pathlib
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator

from codet5p_jax.corpus.languages import language_of

MAX_MEMBER_BYTES = 2 * 2**20  # a larger source file is data
MAX_TOTAL_BYTES = 2 * 2**30
MAX_RATIO = 200  # unpacked bytes for each packed one

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)
_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_ZIP_ENDINGS = (".zip", ".whl", ".jar", ".egg")
ARCHIVE_ENDINGS = _TAR_ENDINGS + _ZIP_ENDINGS
_SKIPPED_FOLDERS = frozenset({".git", ".hg", ".svn", "__pycache__"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """A file inside an archive or directory.

    Attributes:
        path: Its path, without the one folder that encloses a whole tar archive.
        size: Its size in bytes, unpacked.
        refused: Why it is not read, or None.
        read: Returns its bytes; to be called before the next member is asked for.
    """

    path: str
    size: int
    refused: str | None
    read: Callable[[], bytes]


class ArchiveError(ValueError):
    """An archive that cannot be read, or grows beyond all measure when unpacked."""


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether the name of `path` is that of an archive that `members` reads."""
    return str(path).lower().endswith(ARCHIVE_ENDINGS)


def members(path: str | os.PathLike[str]) -> Iterator[Member]:
    """Yields the files of an archive or directory, in a fixed order.

    Raises:
        ArchiveError: The archive is damaged, of an unknown kind, or a bomb: over 2 GiB or over 200
            times its packed size.
    """
    place = pathlib.Path(path)
    if place.is_dir():
        return _of_directory(place)
    name = place.name.lower()
    if name.endswith(_TAR_ENDINGS):
        return _guarded(_of_tar(place), place)
    if name.endswith(_ZIP_ENDINGS):
        return _guarded(_of_zip(place), place)
    if place.is_file() and language_of(place.name) is not None:
        return iter([_of_file(place, place.parent)])
    raise ArchiveError(
        f"{path} is of no known kind: expected a directory or a file that ends in "
        f"{', '.join(ARCHIVE_ENDINGS)}."
    )


def _guarded(found: Iterator[Member], place: pathlib.Path) -> Iterator[Member]:
    limit = min(MAX_TOTAL_BYTES, max(place.stat().st_size, 2**16) * MAX_RATIO)
    total = 0
    try:
        for member in found:
            total += member.size
            if total > limit:
                raise ArchiveError(f"{place} unpacks to over {limit:,} bytes: refused as a bomb.")
            yield dataclasses.replace(member, read=functools.partial(_read_whole, member, place))
    except _DAMAGE as error:
        raise ArchiveError(f"{place} cannot be read: {error}") from error


def _read_whole(member: Member, place: pathlib.Path) -> bytes:
    try:
        return member.read()
    except _DAMAGE as error:
        raise ArchiveError(f"{place} cannot be read at {member.path}: {error}") from error


def _of_tar(place: pathlib.Path) -> Iterator[Member]:
    with tarfile.open(place, "r|*") as archive:
        for info in archive:
            if info.isdir():
                continue
            inner = info.name.removeprefix("./").partition("/")[2] or info.name
            yield Member(
                path=inner,
                size=info.size,
                refused=_refusal(info.name, info.size, regular=info.isreg()),
                read=lambda info=info: _bytes_of(archive, info),  # type: ignore[misc]
            )


def _bytes_of(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(info)
    return b"" if stream is None else stream.read()


def _of_zip(place: pathlib.Path) -> Iterator[Member]:
    with zipfile.ZipFile(place) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            link = (info.external_attr >> 16) & 0o170000 == 0o120000
            yield Member(
                path=info.filename,
                size=info.file_size,
                refused=_refusal(info.filename, info.file_size, regular=not link),
                read=lambda info=info: archive.read(info),  # type: ignore[misc]
            )


def _of_directory(root: pathlib.Path) -> Iterator[Member]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - _SKIPPED_FOLDERS)
        for name in sorted(names):
            yield _of_file(pathlib.Path(folder, name), root)


def _of_file(path: pathlib.Path, root: pathlib.Path) -> Member:
    regular = path.is_file() and not path.is_symlink()
    size = path.stat().st_size if regular else 0
    inner = path.relative_to(root).as_posix()
    refused = _refusal(inner, size, regular=regular)
    return Member(path=inner, size=size, refused=refused, read=path.read_bytes)


def _refusal(path: str, size: int, *, regular: bool) -> str | None:
    if not regular:
        return "archive: a link or special file"
    if path.startswith("/") or "\\" in path or ".." in path.split("/") or "\0" in path:
        return "archive: a path that climbs out"
    if posixpath.normpath(path) == ".":
        return "archive: a path that climbs out"
    return "file: over 2 MiB" if size > MAX_MEMBER_BYTES else None
