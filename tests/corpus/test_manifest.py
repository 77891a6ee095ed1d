"""Tests of codet5p_jax.corpus.manifest."""

import collections

import pytest

from codet5p_jax.corpus.datasets import ShardInfo
from codet5p_jax.corpus.manifest import (
    SourceStatus,
    make_manifest,
    manifest_tables,
    read_manifest,
    write_manifest,
)

COUNTS = collections.Counter(
    {
        ("splits train", "code_functions"): 1500,
        ("splits train", "pairs"): 700,
        ("languages go train", "code_functions"): 1500,
        ("languages go train", "pairs"): 700,
        ("licenses MIT", "code_functions"): 1500,
        ("source files", "alpha"): 12,
        ("source bytes", "alpha"): 34_567,
        ("source licence alpha", "ISC"): 2,
        ("source licence alpha", "MIT"): 10,
        ("rejections", "file: binary"): 3,
        ("rejections", "file: generated"): 5,
        ("scrubbed", "E-mail address"): 4,
    }
)


def _status(name, status="used", reason=""):
    return SourceStatus(
        name=name, ecosystem="pip", version="1.0", split="train", status=status, reason=reason
    )


def _manifest(**kwargs):
    shard = ShardInfo(dataset="code_files", split="train", index=0, records=7, bytes=9, digest="ab")
    fields = dict(
        recipe="small",
        recipe_digest="0",
        counts=COUNTS,
        shards=[shard],
        sources=[_status("alpha"), _status("beta"), _status("gamma", "missing", "no pip")],
        notes=["Mind this."],
    )
    return make_manifest(**{**fields, **kwargs})


def test_counts_are_told_by_split_language_licence_and_reason():
    manifest = _manifest()
    assert manifest["splits"]["train"] == {"code_files": 0, "code_functions": 1500, "pairs": 700}
    assert manifest["splits"]["test"]["pairs"] == 0
    assert manifest["languages"]["go"]["train"]["pairs"] == 700
    assert manifest["licenses"] == {"MIT": {"code_files": 0, "code_functions": 1500, "pairs": 0}}
    assert manifest["rejections"] == {"file: binary": 3, "file: generated": 5}
    assert manifest["scrubbed"] == {"E-mail address": 4}
    assert manifest["files"][0]["path"] == (
        "code_files/1.0.0/code_files-train.tfrecord-00000-of-00001"
    )


def test_sources_tell_what_became_of_them():
    alpha, beta, gamma = _manifest()["sources"]
    assert (alpha["files"], alpha["bytes"], alpha["license"]) == (12, 34_567, "MIT, ISC")
    assert (beta["status"], beta["reason"]) == ("empty", "no file passed")
    assert (gamma["status"], gamma["reason"]) == ("missing", "no pip")


def test_tables_are_readable():
    lines = manifest_tables(_manifest()).splitlines()
    assert lines[2] == "Mind this."
    assert "train                0           1,500    700" in lines
    assert "file: generated       5" in lines
    assert "E-mail address                 4" in lines
    assert any("missing: no pip" in line for line in lines)


def test_a_manifest_is_written_and_read(tmp_path):
    manifest = _manifest()
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert (tmp_path / "manifest.txt").read_text() == manifest_tables(manifest)


def test_a_missing_manifest_says_how_to_build_a_corpus(tmp_path):
    with pytest.raises(FileNotFoundError, match="codet5p corpus build"):
        read_manifest(tmp_path)
