"""Tests of codet5p_jax.corpus.archives."""

import io
import tarfile
import zipfile

import pytest

from codet5p_jax.corpus import archives
from codet5p_jax.corpus.archives import ArchiveError, members


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


def test_members_that_climb_out_and_links_are_refused_unread(tmp_path):
    link = tarfile.TarInfo("a/link.py")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    entries = [
        (tarfile.TarInfo("a/../../x.py"), b"x"),
        (tarfile.TarInfo("/x.py"), b"x"),
        (link, b""),
        (tarfile.TarInfo("a/good.py"), b"x"),
    ]
    refused = [m.refused for m in members(_tar(tmp_path / "a.tar.gz", entries))]
    climbs = "archive: a path that climbs out"
    assert refused == [climbs, climbs, "archive: a link or special file", None]


def test_links_in_zips_and_directories_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link.py")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/link.py").symlink_to("/etc/passwd")
    for place in ("a.zip", "d"):
        assert [m.refused for m in members(tmp_path / place)] == ["archive: a link or special file"]


def test_files_that_are_too_large_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 10)
    (tmp_path / "a.py").write_text("x" * 11)
    assert [m.refused for m in members(tmp_path)] == ["file: over 2 MiB"]


def test_a_bomb_is_refused(tmp_path):
    path = _tar(tmp_path / "bomb.tar.xz", [(tarfile.TarInfo("a/x.py"), b"\0" * 2**24)], "w:xz")
    with pytest.raises(ArchiveError, match="unpacks to over"):
        list(members(path))


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
