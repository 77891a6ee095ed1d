"""Packed streams, unpacked while they are read; what really comes out of them is counted.

What an archive says of its sizes may be a lie, so limits hold for the bytes themselves.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import zstandard

DAMAGE = (zlib.error, lzma.LZMAError, zstandard.ZstdError, EOFError, OSError)

_MAX_WINDOW = 2**27  # bytes of memory that a zstd stream may ask for; the default of `zstd -d`
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60  # bytes: name 16, time 12, owner 6, group 6, mode 8, size 10, end 2


@runtime_checkable
class Readable(Protocol):
    """What bytes can be read of."""

    def read(self, size: int = -1, /) -> bytes:
        """Returns `size` bytes, or fewer at the end."""


class ArchiveError(ValueError):
    """An archive that cannot be read."""

    @property
    def reason(self) -> str:
        """Why it was left out, for the manifest."""
        return f"archive: {type(self.__cause__ or self).__name__}"


class BombError(ArchiveError):
    """An archive that grows beyond all measure when unpacked."""

    @property
    def reason(self) -> str:
        """Why it was left out, for the manifest."""
        return "archive: a bomb"


class CountedStream(io.RawIOBase):
    """The bytes of another stream, up to a limit."""

    def __init__(self, stream: Readable, *, limit: int, name: str):
        """Reads `stream`, of the archive called `name`, up to `limit` bytes."""
        self._stream = stream
        self._limit = limit
        self._name = name
        self._count = 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Reads into `buffer`.

        Raises:
            BombError: More than the limit was read.
        """
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        self._count += len(content)
        if self._count > self._limit:
            raise bomb(self._name, limit=self._limit)
        return len(content)


def bomb(name: str, *, limit: int) -> BombError:
    """Returns the error for the archive called `name`."""
    return BombError(f"{name} unpacks to over {limit:,} bytes: refused as a bomb.")


def unpacked(stream: io.BufferedReader, *, limit: int, name: str) -> io.BufferedReader:
    """Returns what `stream` holds: gzip, bzip2, xz or zstd by its first bytes, else it itself.

    Args:
        stream: Packed or plain.
        limit: Bytes after which reading raises a `BombError`.
        name: Of the archive, for the error.
    """
    start = stream.peek(6)
    kinds = (unpack for magic, unpack in _KINDS.items() if start.startswith(magic))
    unpack = next(kinds, None)
    content = stream if unpack is None else unpack(stream)
    return io.BufferedReader(CountedStream(content, limit=limit, name=name), 2**16)


def _gzip(packed: io.BufferedReader) -> Readable:
    return gzip.GzipFile(fileobj=packed, mode="rb")


def _zstd(packed: io.BufferedReader) -> Readable:
    unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    return unpacker.stream_reader(packed, read_across_frames=True)


_KINDS: dict[bytes, Callable[[io.BufferedReader], Readable]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _zstd,
}


class ArMember(io.RawIOBase):
    """The bytes of one member of an ar archive such as a Debian package."""

    def __init__(self, stream: io.BufferedReader, prefix: str):
        """Goes to the first member of `stream` whose name begins with `prefix`.

        Raises:
            ArchiveError: It is no ar archive, or holds no such member.
        """
        if stream.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise ArchiveError("it is no ar archive")
        while len(header := stream.read(_AR_HEADER)) == _AR_HEADER:
            size = header[48:58].strip()
            if not size.isdigit() or header[58:] != b"`\n":
                break
            if header.startswith(prefix.encode()):
                self._stream, self._left = stream, int(size)
                return
            stream.seek(int(size) + int(size) % 2, io.SEEK_CUR)  # members begin at even places
        raise ArchiveError(f"it holds no {prefix}")

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Reads into `buffer`."""
        content = self._stream.read(min(len(buffer), self._left))
        buffer[: len(content)] = content
        self._left -= len(content)
        return len(content)
