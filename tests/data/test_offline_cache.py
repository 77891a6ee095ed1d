"""Tests of codet5p_jax.data.offline_cache: what SeqIO reads back, and what a kill leaves."""

import json

import numpy as np
import pytest
import seqio

import tasks
from codet5p_jax.data.offline_cache import OfflineCache, check_origin

pytestmark = pytest.mark.usefixtures("registered")


def _task(name):
    return seqio.TaskRegistry.get(name)


def test_seqio_reads_the_cache_as_it_reads_the_source(corpus_dir):
    """The cached records of a task equal what its steps before the placeholder make."""
    task = _task("bimodal_pairs_ruby")
    source = task.preprocess_precache(task.source.get_dataset("train", shuffle=False))
    cached = task._get_cached_source("train").get_dataset("train", shuffle=False)
    expected, got = (
        [e["code"].tobytes() for e in ds.as_numpy_iterator()] for ds in (source, cached)
    )
    assert sorted(got) == sorted(expected) and len(got) > 10
    assert task.get_cached_stats("train")["examples"] == len(got)


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("unimodal_span_denoising_python", {"inputs": 64, "targets": 40}),
        ("unimodal_seq2seq_clm_python", {"inputs": 64, "targets": 64}),
        ("unimodal_decoder_clm_python", {"inputs": 1, "targets": 64}),
        ("bimodal_pairs_python", {"text": 16, "code": 32}),
    ],
)
def test_seqio_runs_every_task_from_its_cache(name, lengths):
    dataset = _task(name).get_dataset(lengths, use_cached=True, shuffle=True, seed=1)
    examples = list(dataset.take(30).as_numpy_iterator())
    assert len(examples) == 30
    for example in examples:
        for feature, length in lengths.items():
            assert example[feature].dtype == np.int32 and 0 < example[feature].size <= length


def test_seqio_packs_a_mixture_from_the_cache():
    dataset = seqio.get_dataset(
        "unimodal_seq2seq_clm",
        {"inputs": 64, "targets": 64},
        dataset_split="train",
        use_cached=True,
        feature_converter=seqio.EncDecFeatureConverter(pack=True),
    )
    [batch] = dataset.take(1).as_numpy_iterator()
    assert batch["encoder_segment_ids"].max() >= 1


def test_objectives_of_a_language_share_their_files(cache_dir):
    paths = [
        cache_dir / f"unimodal_{name}_python" / "train.tfrecord-00000-of-00008"
        for name in ("span_denoising", "seq2seq_clm", "decoder_clm")
    ]
    assert len({path.stat().st_ino for path in paths}) == 1


def test_a_complete_cache_is_left_alone_and_a_partial_one_is_written_anew(tmp_path):
    task = _task("bimodal_pairs_ruby")
    counts = []
    OfflineCache(tmp_path, num_files=2, on_records=counts.append).write(task)
    directory = tmp_path / "bimodal_pairs_ruby"
    assert sum(counts) == sum(
        json.loads((directory / f"stats.{s}.json").read_text())["examples"] for s in task.splits
    )
    OfflineCache(tmp_path, num_files=2, on_records=counts.append).write(task)
    written = sum(counts)
    (directory / "COMPLETED").unlink()
    (tmp_path / "bimodal_pairs_ruby.partial").mkdir()
    (tmp_path / "bimodal_pairs_ruby.partial" / "rest").touch()
    OfflineCache(tmp_path, num_files=2, on_records=counts.append).write(task)
    assert sum(counts) == 2 * written and not (directory / "rest").exists()


def test_the_same_corpus_gives_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        OfflineCache(tmp_path / name, num_files=2).write(_task("unimodal_decoder_clm_ruby"))
    first, second = (
        {p.name: p.read_bytes() for p in (tmp_path / n / "unimodal_decoder_clm_ruby").iterdir()}
        for n in ("first", "second")
    )
    assert first == second


def test_a_cache_of_another_tokenizer_is_refused(tmp_path, cache_dir, corpus_dir, tokenizer):
    OfflineCache(tmp_path, origin={"tokenizer": "aa", "corpus": "bb"})
    with pytest.raises(ValueError, match=r"written with tokenizer 'aa', not 'cc'"):
        OfflineCache(tmp_path, origin={"tokenizer": "cc", "corpus": "bb"})
    check_origin(cache_dir, tasks.origin(corpus_dir, tokenizer))


def test_tasks_that_cannot_be_cached_here_are_refused(tmp_path, registry):
    source = seqio.FunctionDataSource(lambda split, shuffle_files: None, splits=["train"])
    foreign = seqio.TaskRegistry.add("foreign", source=source, output_features={})
    with pytest.raises(ValueError, match=r"reads from a FunctionDataSource.*seqio_cache_tasks"):
        OfflineCache(tmp_path).write(foreign)


def test_a_task_without_placeholder_has_nothing_to_cache(tmp_path):
    task = _task("bimodal_pairs_ruby").replace(preprocessors=[])
    with pytest.raises(ValueError, match="nothing to cache"):
        OfflineCache(tmp_path / "x").write(task)
