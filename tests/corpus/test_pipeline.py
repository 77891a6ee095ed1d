"""Tests of codet5p_jax.corpus.pipeline: the stages as Beam runs them."""

import hashlib

import apache_beam as beam
import pytest

from codet5p_jax.corpus import pipeline
from codet5p_jax.corpus.filters import Filters
from codet5p_jax.corpus.sources import sources_of_path
from codet5p_jax.corpus.splits import assign_splits


def _build(repositories, out, *arguments, reverse=False):
    sources = assign_splits(sources_of_path(repositories))
    out.mkdir()
    options = pipeline.BuildOptions(
        out_dir=str(out), filters=Filters(), licenses=("MIT",), num_shards=2
    )
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


def test_an_entry_is_sent_on_before_its_source_is_read_to_the_end(
    repositories, tmp_path, monkeypatch
):
    monkeypatch.setattr(pipeline, "_ELEMENT_BYTES", 100)
    options = pipeline.BuildOptions(
        out_dir=str(tmp_path), filters=Filters(), licenses=("MIT",), num_shards=1
    )
    source = assign_splits(sources_of_path(repositories))[0]
    elements = list(pipeline.ExtractEntries(options).process(source))
    assert len(elements) > 3
    assert isinstance(elements[-1], beam.pvalue.TaggedOutput)


def test_sources_that_were_read_are_counted(built, tmp_path):
    assert pipeline.count_done(str(tmp_path)) == 0
