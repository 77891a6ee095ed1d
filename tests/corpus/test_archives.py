"""Tests of codet5p_jax.corpus.archives."""

import gzip
import io
import lzma
import os
import random
import struct
import tarfile
import zipfile

import pytest
import zstandard

from codet5p_jax.corpus import archives
from codet5p_jax.corpus.archives import members
from codet5p_jax.corpus.unpacking import ArchiveError, BombError

CLIMBS = "archive: a path that climbs out"
LINK = "archive: a link or special file"


def _read(path):
    return {m.path: m.read().decode() for m in members(path) if m.refused is None}


def _tar(path, entries, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for info, content in entries:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


KINDS = {
    "a.tar": "w",
    "a.tar.gz": "w:gz",
    "a.tgz": "w:gz",
    "a.tar.bz2": "w:bz2",
    "a.tar.xz": "w:xz",
}


@pytest.mark.parametrize(("name", "mode"), KINDS.items())
def test_tar_archives_lose_the_folder_that_encloses_them(tmp_path, name, mode):
    entries = [(tarfile.TarInfo("a-1.0/x.py"), b"x"), (tarfile.TarInfo("./a-1.0/b/y.c"), b"y")]
    assert _read(_tar(tmp_path / name, entries, mode)) == {"x.py": "x", "b/y.c": "y"}


def test_tar_archives_of_zstandard_are_read(tmp_path):
    plain = _tar(tmp_path / "a.tar", [(tarfile.TarInfo("a-1.0/x.py"), b"x")], "w")
    (tmp_path / "a.tar.zst").write_bytes(zstandard.compress(plain.read_bytes()))
    assert _read(tmp_path / "a.tar.zst") == {"x.py": "x"}


PACKED = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress, "": bytes}


@pytest.mark.parametrize(("ending", "pack"), PACKED.items())
def test_debian_packages_keep_the_paths_at_which_they_install(tmp_path, write_deb, ending, pack):
    path = "./usr/lib/python3/dist-packages/x.py"
    deb = write_deb(tmp_path / "a_1.0_all.deb", {path: "x"}, ending, pack)
    assert _read(deb) == {path.removeprefix("./"): "x"}


def test_a_debian_package_without_data_and_one_that_is_none_are_named(tmp_path):
    for content, problem in ((b"!<arch>\n", r"holds no data\.tar"), (b"x" * 99, "no ar archive")):
        (tmp_path / "a.deb").write_bytes(content)
        with pytest.raises(ArchiveError, match=rf"a\.deb cannot be read: .*{problem}"):
            list(members(tmp_path / "a.deb"))


def test_archives_inside_archives_are_not_opened(tmp_path):
    inner = _tar(tmp_path / "inner.tar.gz", [(tarfile.TarInfo("a/x.py"), b"x")]).read_bytes()
    outer = _tar(tmp_path / "a.tar.gz", [(tarfile.TarInfo("a/inner.tar.gz"), inner)])
    assert [m.path for m in members(outer)] == ["inner.tar.gz"]


def test_names_that_are_no_utf8_are_text(tmp_path):
    name = os.fsdecode(b"a/caf\xe9.py")
    path = _tar(tmp_path / "a.tar", [(tarfile.TarInfo(name), b"x")], "w")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / os.fsdecode(b"caf\xe9.py")).write_text("x")
    for place in (path, tmp_path / "d"):
        assert _read(place) == {"caf\N{REPLACEMENT CHARACTER}.py": "x"}


def test_zip_archives_keep_their_paths(tmp_path):
    with zipfile.ZipFile(tmp_path / "a-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("a/x.py", "x")
    assert _read(tmp_path / "a-1.0-py3-none-any.whl") == {"a/x.py": "x"}


def test_directories_are_read_in_order_without_those_of_version_control(tmp_path):
    for name in ("b.py", "a/c.py", ".git/d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list(_read(tmp_path)) == ["b.py", "a/c.py"]


def test_a_single_source_file_is_its_own_member(tmp_path):
    (tmp_path / "a.py").write_text("x")
    assert _read(tmp_path / "a.py") == {"a.py": "x"}


@pytest.mark.parametrize(
    "name", ["a/../../x.py", "/x.py", "..", "a\\..\\x.py", "C:/x.py", "c:x.py", "a/x.py\0.png"]
)
def test_members_that_climb_out_are_refused_unread(tmp_path, name):
    good = (tarfile.TarInfo("a/good.py"), b"x")
    info = tarfile.TarInfo("a/x.py")
    info.pax_headers = {"path": name}  # the only place of a tar header that holds a NUL
    tar = _tar(tmp_path / "a.tar.gz", [(info, b"x"), good])
    assert [m.refused for m in members(tar)] == [CLIMBS, None]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        entry = zipfile.ZipInfo("x")
        entry.filename = name  # past the constructor, which cuts at a NUL
        archive.writestr(entry, "x")
    assert [m.refused for m in members(tmp_path / "a.zip")] == [CLIMBS]


SPECIAL = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]


@pytest.mark.parametrize("kind", SPECIAL)
def test_links_and_devices_in_tar_archives_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("a/x.py")
    info.type, info.linkname = kind, "/etc/passwd"
    entries = [(info, b""), (tarfile.TarInfo("a/good.py"), b"x")]
    assert [m.refused for m in members(_tar(tmp_path / "a.tar.gz", entries))] == [LINK, None]


def test_links_in_zips_and_directories_and_pipes_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link.py")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/link.py").symlink_to("/etc/passwd")
    (tmp_path / "e").mkdir()
    os.mkfifo(tmp_path / "e/pipe.py")
    (tmp_path / "f").mkdir()
    (tmp_path / "f/link").symlink_to("/etc")
    for place in ("a.zip", "d", "e", "f"):
        assert [m.refused for m in members(tmp_path / place)] == [LINK]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_entries_that_unpack_without_a_limit_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("x.py", "x")
    (member,) = members(tmp_path / "a.zip")
    assert member.refused == "archive: packed with an unusual method"


def test_encrypted_zip_entries_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.py", "x")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    (member,) = members(tmp_path / "a.zip")
    assert member.refused == "archive: encrypted"


def test_files_that_are_too_large_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 10)
    (tmp_path / "a.py").write_text("x" * 11)
    assert [m.refused for m in members(tmp_path)] == ["file: over 2 MiB"]


def test_a_bomb_is_refused_by_what_it_says(tmp_path):
    path = _tar(tmp_path / "bomb.tar.xz", [(tarfile.TarInfo("a/x.py"), b"\0" * 2**24)], "w:xz")
    with pytest.raises(BombError, match="unpacks to over 13,107,200 bytes: refused as a bomb"):
        list(members(path))


def test_files_of_a_bomb_that_are_small_one_by_one_add_up(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number}.py", b"\0" * 2**20)
    with pytest.raises(BombError):
        list(members(tmp_path / "a.zip"))


@pytest.mark.parametrize("ending", [".gz", ".xz", ".zst"])
def test_a_tar_stream_is_measured_by_what_really_comes_out_of_it(tmp_path, ending):
    """Its headers speak of one byte; what follows are empty headers that take room all the same."""
    info = tarfile.TarInfo("a/x.py")
    info.size = 1
    folder = tarfile.TarInfo("a")
    folder.type = tarfile.DIRTYPE
    content = info.tobuf() + b"x" + bytes(511) + folder.tobuf() * 30_000
    (tmp_path / f"a.tar{ending}").write_bytes(PACKED[ending](content))
    with pytest.raises(BombError):
        list(members(tmp_path / f"a.tar{ending}"))


def test_no_header_is_held_in_memory_that_is_large(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**24
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(2**24)))
    with pytest.raises(ArchiveError, match=r"a\.tar\.gz cannot be read: a header of 16,777,216"):
        list(members(tmp_path / "a.tar.gz"))


def test_a_header_of_negative_size_is_damage(tmp_path):
    header = bytearray(tarfile.TarInfo("a/x.py").tobuf())
    header[124:136] = b"\xff" * 12  # -1
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(ArchiveError, match="a header of -1 bytes"):
        list(members(tmp_path / "a.tar"))


def test_a_zip_entry_that_lies_about_its_size_is_cut_off_there_and_damaged(tmp_path, monkeypatch):
    size = 2**24 + 12_345
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.py", b"x" * size)
    content = (tmp_path / "a.zip").read_bytes()
    assert content.count(struct.pack("<I", size)) == 2  # in both of its headers
    lie = content.replace(struct.pack("<I", size), struct.pack("<I", 100))
    (tmp_path / "a.zip").write_bytes(lie)
    found = members(tmp_path / "a.zip")
    member = next(found)
    assert (member.size, member.refused) == (100, None)
    unpacked, inflate = [], zipfile._get_decompressor

    class Watched:
        def __init__(self, inner):
            self._inner = inner

        def decompress(self, *args):
            unpacked.append(self._inner.decompress(*args))
            return unpacked[-1]

        def __getattr__(self, name):
            return getattr(self._inner, name)

    monkeypatch.setattr(zipfile, "_get_decompressor", lambda kind: Watched(inflate(kind)))
    with pytest.raises(ArchiveError, match=r"a\.zip at x\.py cannot be read: Bad CRC-32"):
        member.read()
    assert 0 < sum(map(len, unpacked)) <= 2**13


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_a_damaged_archive_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"not an archive")
    with pytest.raises(ArchiveError, match=name):
        list(members(tmp_path / name))


def test_an_archive_that_is_cut_short_is_named(tmp_path):
    path = _tar(tmp_path / "a.tar.gz", [(tarfile.TarInfo("a/x.py"), bytes(range(256)) * 999)])
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ArchiveError, match=r"a\.tar\.gz"):
        [m.read() for m in members(path)]


def test_an_unknown_kind_of_archive_names_the_known_ones(tmp_path):
    (tmp_path / "a.rar").write_bytes(b"")
    with pytest.raises(ArchiveError, match=r"no known kind.*\.tar\.gz"):
        members(tmp_path / "a.rar")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.zst", "a.zip", "a.deb"])
def test_an_archive_with_random_damage_is_read_or_named_and_nothing_else(tmp_path, name, write_deb):
    entries = [(tarfile.TarInfo(f"a/{'x' * 150}{i}.py"), bytes(range(256)) * 3) for i in range(3)]
    plain = _tar(tmp_path / "plain.tar", entries, "w").read_bytes()
    if name == "a.zip":
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/x.py", "print(1)\n" * 99)
    elif name == "a.deb":
        write_deb(tmp_path / name, {"./a/x.py": "print(1)\n" * 99})
    else:
        (tmp_path / name).write_bytes(PACKED[name.removeprefix("a.tar")](plain))
    whole, random_ = (tmp_path / name).read_bytes(), random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(random_.choice((1, 2, 8))):
            content[random_.randrange(len(content))] = random_.choice((0, 0x30, 0xFF))
        (tmp_path / name).write_bytes(content)
        try:
            for member in members(tmp_path / name):
                member.path.encode()
                assert member.refused or len(member.read()) <= archives.MAX_MEMBER_BYTES
        except ArchiveError as error:
            assert name in str(error)
