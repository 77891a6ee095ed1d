"""Tests of codet5p_jax.corpus.pipeline: the stages as Beam runs them."""

import errno
import hashlib

import pytest

from codet5p_jax.corpus import extracted, pipeline
from codet5p_jax.corpus.filters import Filters
from codet5p_jax.corpus.options import BuildOptions
from codet5p_jax.corpus.sources import sources_of_path
from codet5p_jax.corpus.splits import assign_splits
from tests.corpus.conftest import MIT


def _build(repositories, out, *arguments, reverse=False):
    sources = assign_splits(sources_of_path(repositories))
    out.mkdir(exist_ok=True)
    options = BuildOptions(out_dir=str(out), filters=Filters(), licenses=("MIT",), num_shards=2)
    pipeline.run(sources[::-1] if reverse else sources, options, arguments)
    digest = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.rglob("*tfrecord*")}
    return digest, pipeline.read_summary(str(out))


@pytest.fixture(scope="module")
def built(repositories, tmp_path_factory):
    return _build(repositories, tmp_path_factory.mktemp("pipeline") / "out")


def test_every_shard_of_every_split_is_written(built):
    digests, (_, shards) = built
    assert len(digests) == len(shards) == 2 * 3 * 2
    assert "code_functions-test.tfrecord-00001-of-00002" in digests


def test_counts_add_up(built):
    _, (counts, shards) = built
    for dataset in ("code_files", "code_functions"):
        written = sum(shard.records for shard in shards if shard.dataset == dataset)
        counted = [
            n for (what, kind), n in counts.items() if what[:7] == "splits " and kind == dataset
        ]
        assert written == sum(counted) > 0
    assert counts["splits train", "pairs"] > 0


def test_records_do_not_depend_on_the_order_of_sources(built, repositories, tmp_path):
    digests, _ = _build(repositories, tmp_path / "out", reverse=True)
    assert digests == built[0]


@pytest.mark.slow
def test_records_do_not_depend_on_the_number_of_workers(built, repositories, tmp_path):
    workers = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    digests, _ = _build(repositories, tmp_path / "out", *workers)
    assert digests == built[0]


def _tree(root, **modules):
    for name, text in modules.items():
        folder = root / name.partition("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        (folder / "LICENSE").write_text(MIT)
    return root


def test_equal_and_near_records_of_other_repositories_go(tmp_path):
    lines = [f"    value = step_{i}(value, number_{i})" for i in range(60)]
    one = "def steps(value):\n" + "\n".join(lines) + "\n    return value\n"
    near = one.replace("step_7(", "step_seven(")
    spaced = one.replace("    value", "        value").replace("    return", "        return")
    other = one.replace("step_", "other_").replace("number_", "factor_")
    root = _tree(tmp_path / "in", a_x=one, b_x=near, c_x=spaced, d_x=other)
    _, (counts, shards) = _build(root, tmp_path / "out")
    assert counts["rejections", "function: duplicate"] == 1
    assert counts["rejections", "function: near-duplicate"] == 1
    assert counts["rejections", "file: near-duplicate"] == 1
    assert sum(shard.records for shard in shards if shard.dataset == "code_functions") == 2


def test_a_full_disk_is_told_as_itself(repositories, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(extracted, "write_chunk", full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        _build(repositories, tmp_path / "out")
    assert raised.value.errno == errno.ENOSPC


def test_a_build_that_was_killed_goes_on_with_what_it_has_extracted(
    built, repositories, tmp_path, monkeypatch
):
    def killed(*_, **__):
        raise OSError("no space left")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space"):
        patched.setattr(pipeline, "write_shard", killed)
        _build(repositories, tmp_path / "out")
    monkeypatch.setattr(extracted, "extract_source", killed)
    assert _build(repositories, tmp_path / "out")[0] == built[0]
