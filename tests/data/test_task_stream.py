import pytest

from codet5p_jax.data.record_files import RecordFiles
from codet5p_jax.data.task_stream import shard_files


def _files(count, *, records=10_000):
    return RecordFiles(
        task="t",
        split="train",
        paths=tuple(f"f{i}" for i in range(count)),
        parse=lambda serialized, language: {},
        language="go",
        preprocessors=(),
        num_records=records,
    )


def _parts(files, num_shards, num_epochs=None):
    return [
        shard_files(files, shard=i, num_shards=num_shards, num_epochs=num_epochs)
        for i in range(num_shards)
    ]


@pytest.mark.parametrize("count", [4, 8, 40, 41])
def test_whole_files_go_to_shards_where_they_divide_or_are_many(count):
    parts = _parts(_files(count), 4)
    assert sorted(path for part in parts for path in part.paths) == sorted(_files(count).paths)
    assert {part.stride for part in parts} == {1} and parts[0].language == "go"


@pytest.mark.parametrize("count", [1, 3, 6])
def test_else_every_shard_takes_its_own_records_of_every_file(count):
    parts = _parts(_files(count), 4)
    assert all(part.paths == _files(count).paths and part.stride == 4 for part in parts)
    assert [part.phase for part in parts] == [0, 1, 2, 3]


def test_small_tasks_are_read_whole_by_each_shard_but_not_when_passes_are_counted():
    small = _files(1, records=20)
    assert all(part.stride == 1 for part in _parts(small, 4))
    assert all(part.stride == 4 for part in _parts(small, 4, num_epochs=1))
