"""Members of archives and directories, one after another, never unpacked to disk.

Read are tar (plain, gz, bz2, xz, zst), npm's tgz, zip and wheels, Debian's binary packages,
directories and single source files. Archives inside archives are not opened. A member that climbs
out of its archive, is a link, a device or too large is refused: it is yielded with the reason,
unread.
"""

import contextlib
import dataclasses
import functools
import io
import os
import pathlib
import posixpath
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator

from codet5p_jax.corpus.languages import language_of
from codet5p_jax.corpus.unpacking import (
    DAMAGE,
    ArchiveError,
    ArMember,
    BombError,
    bomb,
    unpacked,
)

MAX_MEMBER_BYTES = 2 * 2**20  # a larger source file is data
MAX_TOTAL_BYTES = 2 * 2**30
MAX_RATIO = 200  # unpacked bytes for each packed one

TOO_LARGE = "file: over 2 MiB"

_DAMAGE = (
    *(*DAMAGE, tarfile.TarError, zipfile.BadZipFile, NotImplementedError),
    *(ValueError, IndexError, OverflowError, struct.error),  # of headers that make no sense
)
_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_ZIP_ENDINGS = (".zip", ".whl", ".jar", ".egg")
ARCHIVE_ENDINGS = (*_TAR_ENDINGS, *_ZIP_ENDINGS, ".deb")
_SKIPPED_FOLDERS = frozenset({".git", ".hg", ".svn", "__pycache__"})
_HEADERS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_MAX_HEADER_BYTES = 2**20  # tarfile holds them in memory
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DRIVE = re.compile("[A-Za-z]:")


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


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether the name of `path` is that of an archive that `members` reads."""
    return str(path).lower().endswith(ARCHIVE_ENDINGS)


def members(path: str | os.PathLike[str]) -> Iterator[Member]:
    """Yields the files of an archive or directory, in a fixed order.

    Raises:
        ArchiveError: The archive is damaged or of an unknown kind.
        BombError: It unpacks to over 2 GiB or over 200 times its size, by what it says or by what
            is really read of it.
    """
    place = pathlib.Path(path)
    if place.is_dir():
        return _of_directory(place)
    name = place.name.lower()
    if name.endswith(".deb"):
        return _guarded(_of_deb, place)
    if name.endswith(_TAR_ENDINGS):
        return _guarded(_of_tar, place)
    if name.endswith(_ZIP_ENDINGS):
        return _guarded(_of_zip, place)
    if place.is_file() and language_of(place.name) is not None:
        return iter([_of_file(place, place.parent)])
    raise ArchiveError(
        f"{path} is of no known kind: expected a directory or a file that ends in "
        f"{', '.join(ARCHIVE_ENDINGS)}."
    )


def _guarded(members_of: Callable[..., Iterator[Member]], place: pathlib.Path) -> Iterator[Member]:
    total = 0
    with _named_errors(str(place)), place.open("rb") as stream:
        limit = min(MAX_TOTAL_BYTES, max(place.stat().st_size, 2**16) * MAX_RATIO)
        for member in members_of(stream, limit=limit, name=str(place)):
            total += member.size
            if total > limit:
                raise bomb(str(place), limit=limit)
            yield dataclasses.replace(member, read=functools.partial(_read_whole, member, place))


def _read_whole(member: Member, place: pathlib.Path) -> bytes:
    with _named_errors(f"{place} at {member.path}"):
        return member.read()


@contextlib.contextmanager
def _named_errors(name: str) -> Iterator[None]:
    try:
        yield
    except BombError:
        raise
    except _DAMAGE as error:
        raise ArchiveError(f"{name} cannot be read: {error}") from error


class _TarInfo(tarfile.TarInfo):
    """A header whose size is checked before anything of that size is read."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _HEADERS and self.size > _MAX_HEADER_BYTES):
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def _of_tar(
    stream: io.BufferedReader, *, limit: int, name: str, enclosed: bool = True
) -> Iterator[Member]:
    """Yields the members of a tar archive; one that is `enclosed` loses its outermost folder."""
    content = unpacked(stream, limit=limit, name=name)
    with tarfile.open(fileobj=content, mode="r|", bufsize=2**16, tarinfo=_TarInfo) as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep every header
            if info.isdir():
                continue
            inner = info.name.removeprefix("./")
            yield Member(
                path=plain_text((enclosed and inner.partition("/")[2]) or inner),
                size=info.size,
                refused=_refusal(
                    info.name, info.size, regular=info.isreg() and not info.issparse()
                ),
                read=functools.partial(_bytes_of, archive, info),
            )


def _bytes_of(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(info)
    return b"" if stream is None else stream.read()


def _of_deb(stream: io.BufferedReader, *, limit: int, name: str) -> Iterator[Member]:
    content = io.BufferedReader(ArMember(stream, "data.tar"), 2**16)
    return _of_tar(content, limit=limit, name=name, enclosed=False)  # type: ignore[arg-type]


def _of_zip(stream: io.BufferedReader, *, limit: int, name: str) -> Iterator[Member]:
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            mode = (info.external_attr >> 16) & 0o170000
            yield Member(
                path=plain_text(info.filename),
                size=info.file_size,
                refused=_refusal(info.orig_filename, info.file_size, regular=mode in (0, 0o100000))
                or _zip_refusal(info),
                read=functools.partial(_bytes_of_zip, archive, info),
            )


def _zip_refusal(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & 1:
        return "archive: encrypted"
    # zipfile unpacks bzip2 and LZMA without a limit, whatever the entry says of its size.
    return None if info.compress_type in _ZIP_METHODS else "archive: packed with an unusual method"


def _bytes_of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as stream:
        return stream.read(info.file_size)  # without a number it would unpack all that is there


def _of_directory(root: pathlib.Path) -> Iterator[Member]:
    for folder, folders, names in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = sorted(set(folders) - _SKIPPED_FOLDERS)
        for name in sorted([*names, *links]):
            yield _of_file(pathlib.Path(folder, name), root)


def _of_file(path: pathlib.Path, root: pathlib.Path) -> Member:
    regular = path.is_file() and not path.is_symlink()
    size = path.stat().st_size if regular else 0
    inner = path.relative_to(root).as_posix()
    refused = _refusal(inner, size, regular=regular)
    return Member(path=plain_text(inner), size=size, refused=refused, read=path.read_bytes)


def _refusal(path: str, size: int, *, regular: bool) -> str | None:
    if not regular:
        return "archive: a link or special file"
    if path.startswith("/") or "\\" in path or "\0" in path or _DRIVE.match(path):
        return "archive: a path that climbs out"
    if ".." in path.split("/") or posixpath.normpath(path) == ".":
        return "archive: a path that climbs out"
    return TOO_LARGE if size > MAX_MEMBER_BYTES else None


def plain_text(path: str) -> str:
    """Returns `path` as text that can be encoded; bytes that are no UTF-8 were surrogates."""
    return path.encode(errors="surrogateescape").decode(errors="replace")
