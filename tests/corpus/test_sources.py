"""Tests of codet5p_jax.corpus.sources."""

import json
import zipfile

import fsspec
import pytest

from codet5p_jax.corpus.fetch import Fetched
from codet5p_jax.corpus.recipes import Package
from codet5p_jax.corpus.sources import (
    Source,
    source_of_package,
    sources_of_path,
    with_unique_names,
)

CODE = "def area(radius):\n    return 3 * radius * radius\n"


def _source(*places, **kwargs):
    fields = {"name": "r", "ecosystem": "archive", "places": tuple(map(str, places))}
    return Source(**{**fields, **kwargs})


def test_a_directory_holds_a_repository_in_each_folder_and_archive(tmp_path, write_tar):
    for name in ("one", "two", ".hidden"):
        (tmp_path / name).mkdir()
    write_tar(tmp_path / "three.tar.gz", {})
    found = sources_of_path(tmp_path, license="MIT")
    assert [s.name for s in found] == ["one", "three.tar.gz", "two"]
    assert {s.license for s in found} == {"MIT"}


@pytest.mark.parametrize("mark", [".git/config", "setup.py"])
def test_a_checkout_or_a_folder_of_code_is_one_repository(tmp_path, mark):
    for name in (mark, "one/a.py", "two/b.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [s.places for s in sources_of_path(tmp_path)] == [(str(tmp_path),)]


def _rows(path, repository="o/r"):
    row = {"code": CODE, "repo_name": repository, "path": "a.py", "language": "C", "license": "mit"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row) + "\n")
    return path


def test_each_file_of_rows_is_a_source_of_its_own(tmp_path):
    for name in ("data/a.jsonl", "data/b.jsonl", "README.md"):
        _rows(tmp_path / "set" / name)
    found = sources_of_path(tmp_path / "set", license="MIT")
    assert [s.name for s in found] == ["set/a.jsonl", "set/b.jsonl"]
    assert {(s.ecosystem, s.license, s.rows.name) for s in found} == {
        ("rows", "MIT", "github-code")
    }
    assert [s.name for s in sources_of_path(tmp_path / "set/data/a.jsonl")] == ["a.jsonl"]


def test_a_zip_of_files_of_rows_is_a_data_set(tmp_path):
    with zipfile.ZipFile(tmp_path / "java.zip", "w") as archive:
        archive.write(_rows(tmp_path / "a.jsonl"), "java/final/jsonl/test/java_test_0.jsonl")
    (source,) = sources_of_path(tmp_path / "java.zip")
    assert source.name == "java.zip/java_test_0.jsonl"


def test_a_folder_of_such_zips_is_a_data_set(tmp_path):
    for language in ("java", "go"):
        with zipfile.ZipFile(tmp_path / f"{language}.zip", "w") as archive:
            archive.write(_rows(tmp_path / "a.jsonl"), f"{language}_test_0.jsonl")
    (tmp_path / "a.jsonl").unlink()
    for field_map in (None, "github-code"):
        found = sources_of_path(tmp_path, field_map=field_map)
        names = [s.name.removeprefix(f"{tmp_path.name}/") for s in found]
        assert names == ["go_test_0.jsonl", "java_test_0.jsonl"]


def test_a_single_archive_in_a_folder_is_opened(tmp_path, write_tar):
    path = write_tar(tmp_path / "a.tar.gz", {"a/x.py": CODE})
    assert [s.places for s in sources_of_path(tmp_path)] == [(str(path),)]


def test_a_data_set_behind_an_address_is_found():
    system = fsspec.filesystem("memory")
    row = {"code": CODE, "repo_name": "r", "path": "a.py", "language": "Go", "license": "mit"}
    system.pipe("/set/data/a.jsonl", json.dumps(row).encode())
    try:
        (source,) = sources_of_path("memory://set")
    finally:
        system.rm("/set", recursive=True)
    assert source.places == ("memory:///set/data/a.jsonl",)
    assert source.name == "set/a.jsonl"


def test_code_with_a_few_rows_beside_it_is_code_unless_a_field_map_says_otherwise(tmp_path):
    _rows(tmp_path / "samples/a.jsonl")
    (tmp_path / "x.py").write_text(CODE * 100)
    (source,) = sources_of_path(tmp_path)
    assert source.rows is None
    (source,) = sources_of_path(tmp_path, field_map="github-code")
    assert source.rows is not None


def test_a_checkout_is_code_whatever_it_holds(tmp_path):
    _rows(tmp_path / "a.jsonl")
    (tmp_path / ".git").mkdir()
    (source,) = sources_of_path(tmp_path)
    assert source.rows is None


def test_a_field_map_for_what_holds_no_rows_is_an_error(tmp_path):
    (tmp_path / "x.py").write_text(CODE)
    with pytest.raises(FileNotFoundError, match=r"holds no file that ends in \.parquet"):
        sources_of_path(tmp_path, field_map="the-stack")


def test_a_source_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        sources_of_path(tmp_path / "nowhere")


def test_a_package_brings_its_own_share_or_takes_that_of_the_recipe():
    for own, expected in ((None, 10), (5, 5)):
        package = Package(name="a", ecosystem="pip", max_bytes=own, split="test")
        source = source_of_package(Fetched(package=package, archives=("x",)), max_bytes=10)
        assert (source.max_bytes, source.split, source.places) == (expected, "test", ("x",))


def test_sources_of_one_name_are_told_apart():
    names = [s.name for s in with_unique_names([_source(name=n) for n in ("a", "a", "b", "a")])]
    assert names == ["a", "a-2", "b", "a-3"]
