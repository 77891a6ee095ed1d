"""Tests of codet5p_jax.corpus.extracted: what a killed build finds again."""

import json
import os

import fsspec
import pytest

from codet5p_jax.corpus import extracted as module
from codet5p_jax.corpus.chunks import read_table
from codet5p_jax.corpus.extracted import count_extracted, extracted
from codet5p_jax.corpus.filters import Filters
from codet5p_jax.corpus.options import BuildOptions
from codet5p_jax.corpus.sources import sources_of_path


def _options(out):
    return BuildOptions(out_dir=str(out), filters=Filters(), licenses=("MIT",), num_shards=2)


def _extracted(source, out):
    return extracted(source, _options(out))


@pytest.fixture
def source(repositories):
    return sources_of_path(repositories)[0]


def test_what_is_there_is_not_extracted_again(source, tmp_path, monkeypatch):
    first = _extracted(source, tmp_path)
    assert count_extracted(_options(tmp_path)) == 1
    monkeypatch.setattr(module, "extract_source", None)
    assert _extracted(source, tmp_path) == first


def test_chunks_of_a_build_that_was_killed_are_written_again(source, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module.json, "dumps", killed)
        _extracted(source, tmp_path)
    assert count_extracted(_options(tmp_path)) == 0
    found = _extracted(source, tmp_path)
    assert [len(read_table(chunk).ids) for _, chunk in found.chunks] == [3, 10]
    assert count_extracted(_options(tmp_path)) == 1


def test_a_source_whose_files_changed_is_extracted_again(tmp_path, write_tar):
    code = "def add(a, b):\n    total = a + b\n    return total\n"
    path = write_tar(tmp_path / "a.tar.gz", {"a/LICENSE": "x", "a/a.py": code})
    (source,) = sources_of_path(path, license="MIT")
    first = _extracted(source, tmp_path / "out")
    write_tar(path, {"a/LICENSE": "x", "a/a.py": code + code.replace("add", "sum_of")})
    os.utime(path, (0, 0))
    second = _extracted(source, tmp_path / "out")
    sizes = [len(read_table(found.chunks[-1][1]).ids) for found in (first, second)]
    assert sizes == [1, 2]


def test_a_large_source_is_written_in_several_chunks(source, tmp_path, monkeypatch):
    whole = _extracted(source, tmp_path / "whole")
    monkeypatch.setattr(module, "_CHUNK_BYTES", 100)
    parts = _extracted(source, tmp_path / "parts")
    assert len(parts.chunks) > len(whole.chunks) == 2
    assert parts.counts == whole.counts
    ids = [
        sorted(i for dataset, chunk in found.chunks for i in read_table(chunk).ids.tolist())
        for found in (whole, parts)
    ]
    assert ids[0] == ids[1]


def test_rows_behind_an_address_that_changed_are_extracted_again(tmp_path):
    code = "def area(radius):\n    square = radius * radius\n    return 3 * square\n"
    row = {"code": code, "repo_name": "o/a", "path": "a.py", "language": "Python", "license": "mit"}
    system = fsspec.filesystem("memory")
    try:
        for number in (1, 1, 2):
            content = (json.dumps(row) + "\n").encode() * number
            if not system.exists("/a.jsonl") or system.cat("/a.jsonl") != content:
                system.pipe("/a.jsonl", content)
            (source,) = sources_of_path("memory://a.jsonl")
            _extracted(source, tmp_path)
    finally:
        system.rm("/a.jsonl")
    assert count_extracted(_options(tmp_path)) == 2


def test_names_that_are_no_text_are_read(tmp_path):
    """Linux names files by bytes; a repository's name and a path go to records as text."""
    folder = os.path.join(os.fsencode(tmp_path), b"in", b"r\xff")
    os.makedirs(folder)
    with open(os.path.join(folder, b"a\xff.py"), "w") as stream:
        stream.write("def f(a):\n    b = a + 1\n    return b\n")
    (tmp_path / "in" / "other").mkdir()
    sources = sources_of_path(tmp_path / "in", license="MIT")
    assert [source.name for source in sources] == ["other", "r\ufffd"]
    assert [len(_extracted(source, tmp_path).chunks) for source in sources] == [0, 1]
