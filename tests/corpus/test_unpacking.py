"""Tests of codet5p_jax.corpus.unpacking."""

import bz2
import gzip
import io
import lzma

import pytest
import zstandard

from codet5p_jax.corpus.unpacking import ArchiveError, ArMember, BombError, unpacked

PACKED = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}


def _unpacked(content, limit):
    return unpacked(io.BufferedReader(io.BytesIO(content)), limit=limit, name="a.tar").read()


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_packed_bytes_are_known_by_their_first_and_read_up_to_the_limit(pack):
    content = bytes(range(256)) * 1_000
    assert _unpacked(pack(content), limit=len(content)) == content
    with pytest.raises(BombError, match=r"a\.tar unpacks to over 255,999 bytes"):
        _unpacked(pack(content), limit=len(content) - 1)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_packed_streams_one_after_another_are_one(pack):
    assert _unpacked(pack(b"a" * 99) + pack(b"b"), limit=100) == b"a" * 99 + b"b"


def test_a_zstd_stream_that_asks_for_much_memory_is_refused():
    window = zstandard.ZstdCompressionParameters(window_log=28)
    writer = zstandard.ZstdCompressor(compression_params=window).compressobj()
    content = writer.compress(b"a") + writer.flush()
    with pytest.raises(zstandard.ZstdError, match="memory"):
        _unpacked(content, limit=2**30)


def _ar(**parts):
    members = (
        f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(text):<10}`\n{text}"
        + "\n" * (len(text) % 2)
        for name, text in parts.items()
    )
    return io.BufferedReader(io.BytesIO(("!<arch>\n" + "".join(members)).encode()))


def test_a_member_of_an_ar_archive_is_read_and_nothing_after_it():
    assert io.BufferedReader(ArMember(_ar(a="xyz", b="12", c="z"), "b")).read() == b"12"


def test_a_member_that_an_ar_archive_lacks_is_named():
    with pytest.raises(ArchiveError, match="it holds no data"):
        ArMember(_ar(a="xyz"), "data")
    with pytest.raises(ArchiveError, match="it is no ar archive"):
        ArMember(io.BufferedReader(io.BytesIO(b"PK")), "data")
