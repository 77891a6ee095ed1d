"""Tests of codet5p_jax.corpus.chunks."""

import numpy as np

from codet5p_jax.corpus import chunks
from codet5p_jax.corpus.tfrecords import unframed
from tests.corpus.test_deduplication import function_entry

LONG = "int f(int a) { return a * b + c * d + e * f + g * h; }"


def _entries():
    return [
        function_entry(LONG, split="test", docstring="Opens it."),
        function_entry("int g(){}", path="q"),
        function_entry(LONG.replace(" ", "  "), path="z"),
    ]


def test_a_chunk_gives_back_what_was_written(tmp_path):
    entries = _entries()
    chunks.write_chunk(tmp_path / "chunk", entries, num_shards=2)
    table = chunks.read_table(tmp_path / "chunk")
    by_rank = {entry.rank: entry for entry in entries}
    in_order = [by_rank[rank] for rank in table.ranks.tolist()]
    assert [entry.id for entry in in_order] == table.ids.tolist()
    shards = [entry.id % 2 for entry in in_order]
    assert shards == sorted(shards)
    assert [entry.documented for entry in in_order] == table.documented.tolist()
    frames = chunks.read_frames(tmp_path / "chunk", table, np.arange(3))
    assert [unframed(frame) for frame in frames] == [entry.example for entry in in_order]


def test_some_rows_are_read_alone(tmp_path):
    chunks.write_chunk(tmp_path / "chunk", _entries(), num_shards=1)
    table = chunks.read_table(tmp_path / "chunk")
    whole = list(chunks.read_frames(tmp_path / "chunk", table, np.arange(3)))
    assert list(chunks.read_frames(tmp_path / "chunk", table, np.array([2]))) == whole[2:]


def test_equal_records_share_their_id_and_every_band_and_short_ones_none(tmp_path):
    chunks.write_chunk(tmp_path / "chunk", _entries(), num_shards=1)
    ranks = {name: entry.rank for name, entry in zip("abc", _entries(), strict=True)}
    for band in (None, 0, 24):
        buckets, own = chunks.read_buckets(tmp_path / "chunk", band)
        of = {name: buckets[own == rank].item() for name, rank in ranks.items()}
        assert of["a"] == of["c"] != of["b"]


def test_signatures_lie_beside_their_ranks(tmp_path):
    chunks.write_chunk(tmp_path / "chunk", _entries(), num_shards=1)
    ranks, signatures = chunks.read_signatures(tmp_path / "chunk")
    assert signatures.shape == (3, 256) and signatures.dtype == np.uint16
    assert set(ranks.tolist()) == {entry.rank for entry in _entries()}
