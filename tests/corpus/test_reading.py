"""Tests of codet5p_jax.corpus.reading."""

import io
import tarfile

from codet5p_jax.corpus.filters import Filters
from codet5p_jax.corpus.reading import read_source
from codet5p_jax.corpus.records import SourceFile
from codet5p_jax.corpus.sources import Source

CODE = "def area(radius):\n    return 3 * radius * radius\n"


def _read(source, **kwargs):
    results = list(read_source(source, filters=Filters(), **kwargs))
    files = {r.path: r for r in results if isinstance(r, SourceFile)}
    rejections = {r.path: r.reason for r in results if not isinstance(r, SourceFile)}
    return files, rejections


def _source(*places, **kwargs):
    fields = {"name": "r", "ecosystem": "archive", "places": tuple(map(str, places))}
    return Source(**{**fields, **kwargs})


def test_a_wheel_is_read_with_the_licence_of_its_metadata(tmp_path, write_wheel):
    files, rejections = _read(
        _source(write_wheel(tmp_path, "a", {"x.py": CODE, "y.rs": "fn", "test_z.py": CODE}))
    )
    file = files["a/x.py"]
    assert (file.license, file.language, file.repository) == ("MIT", "python", "r")
    assert file.content == CODE.encode()
    assert rejections == {"a/test_z.py": "file: of tests"}


def test_an_npm_archive_is_read_with_the_licence_of_its_package_json(tmp_path, write_tar):
    files = {
        "package/index.js": "function f(value) {\n}\n",
        "package/package.json": '{"license":"ISC"}',
    }
    kept, _ = _read(_source(write_tar(tmp_path / "a-1.0.tgz", files)))
    assert kept["index.js"].license == "ISC"


def test_debian_copyright_gives_each_file_its_licence(tmp_path, write_tar):
    upstream = write_tar(tmp_path / "a_1.orig.tar.gz", {"a/x.py": CODE, "a/gpl/y.py": CODE + "#\n"})
    copyright = "Files: *\nLicense: Expat\n\nFiles: gpl/*\nLicense: GPL-2+\n"
    debian = write_tar(tmp_path / "a_1-1.debian.tar.gz", {"debian/copyright": copyright})
    files, rejections = _read(_source(upstream, debian))
    assert files["x.py"].license == "MIT"
    assert rejections == {"gpl/y.py": "licence: GPL-2.0-or-later"}


def test_a_debian_package_is_read_with_all_licences_of_its_copyright(tmp_path, write_deb):
    copyright = "Files: *\nLicense: Expat\n\nFiles: a/*\nLicense: {}\n"
    for other, license in (("ISC", "MIT AND ISC"), ("GPL-2+", None)):
        files = {
            "./usr/lib/python3/dist-packages/a/x.py": CODE,
            "./usr/share/doc/python3-a/copyright": copyright.format(other),
        }
        kept, rejections = _read(_source(write_deb(tmp_path / "a_1.deb", files)))
        assert [file.license for file in kept.values()] == ([license] if license else [])
        assert (set(rejections.values()) == {"licence: MIT AND GPL-2.0-or-later"}) != bool(license)


def test_an_npm_archive_that_refers_to_its_licence_is_read_with_its_text(
    tmp_path, write_tar, mit_license
):
    files = {
        "package/index.js": "function f(value) {\n}\n",
        "package/LICENSE": mit_license,
        "package/package.json": '{"license": "SEE LICENSE IN LICENSE"}',
    }
    kept, _ = _read(_source(write_tar(tmp_path / "a-1.0.tgz", files)))
    assert kept["index.js"].license == "MIT"


def test_a_folder_is_read_with_the_licence_of_its_package_json(tmp_path):
    (tmp_path / "x.py").write_text(CODE)
    (tmp_path / "package.json").write_text('{"licenses": [{"type": "MIT"}, {"type": "GPL-2.0"}]}')
    assert _read(_source(tmp_path))[0]["x.py"].license == "MIT OR GPL-2.0-only"


def test_a_license_file_speaks_for_its_repository(tmp_path, write_tar, mit_license):
    files = {"a/x.py": CODE, "a/LICENSE": mit_license}
    kept, _ = _read(_source(write_tar(tmp_path / "a.tar.gz", files)))
    assert kept["x.py"].license == "MIT"


def test_a_source_that_states_no_licence_needs_a_hint(tmp_path):
    (tmp_path / "x.py").write_text(CODE)
    assert _read(_source(tmp_path))[1] == {"x.py": "licence: NOASSERTION"}
    assert _read(_source(tmp_path, license="MIT"))[0]["x.py"].license == "MIT"
    assert _read(_source(tmp_path, license="Expat"))[0]["x.py"].license == "MIT"
    assert not _read(_source(tmp_path, license="MIT"), allowed_licenses=["ISC"])[0]
    assert _read(_source(tmp_path), allowed_licenses=["any"])[0]["x.py"].license == "NOASSERTION"


def test_a_hint_does_not_overrule_what_the_source_states(tmp_path, write_wheel):
    wheel = write_wheel(tmp_path, "a", {"x.py": CODE}, license="GPL-3.0-only")
    assert _read(_source(wheel, license="MIT"))[1] == {"a/x.py": "licence: GPL-3.0-only"}


def test_only_the_languages_asked_for_are_read(tmp_path):
    (tmp_path / "x.py").write_text(CODE)
    (tmp_path / "y.c").write_text("int f(void) { return 1; }\n")
    assert list(_read(_source(tmp_path, license="MIT", languages=("c",)))[0]) == ["y.c"]


def test_no_more_than_its_share_is_taken_of_a_source(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.py").write_text(CODE)
    files, rejections = _read(_source(tmp_path, license="MIT", max_bytes=2 * len(CODE)))
    assert list(files) == ["a.py", "b.py"]
    assert rejections == {"c.py": "file: beyond the share of its source"}


def test_windows_line_ends_and_byte_order_marks_are_taken_off(tmp_path):
    (tmp_path / "x.py").write_bytes(b"\xef\xbb\xbf" + CODE.replace("\n", "\r\n").encode())
    files, _ = _read(_source(tmp_path, license="MIT"))
    assert files["x.py"].content == CODE.encode()


def test_a_damaged_archive_is_a_rejection(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"no archive")
    files, rejections = _read(_source(tmp_path / "a.tar.gz"))
    assert not files and list(rejections.values()) == ["archive: ReadError"]


def test_a_bomb_and_what_an_archive_should_not_hold_are_rejections(tmp_path, write_tar):
    files = {"a/../../etc/shadow": "x", "a/x.py": CODE, "a/y.py": "\0" * 2**24}
    kept, rejections = _read(_source(write_tar(tmp_path / "a.tar.gz", files), license="MIT"))
    assert list(kept) == ["x.py"]
    assert set(rejections.values()) == {"archive: a path that climbs out", "archive: a bomb"}


def test_files_of_the_same_path_are_told_apart(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for content in (CODE, CODE, CODE + "#\n"):
            info = tarfile.TarInfo("a/x.py")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    found = read_source(
        _source(tmp_path / "a.tar", license="MIT"), filters=Filters(), allowed_licenses=["MIT"]
    )
    assert [file.origin for file in found] == ["", "2#", "3#"]
