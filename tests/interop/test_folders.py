import errno
import json
import os

import numpy as np
import pytest

from codet5p_jax.interop.folders import read_json, read_tensors, replacing_folder, write_tensors
from codet5p_jax.interop.tensors import LazyTensor, write_safetensors


def _lazy(name, size):
    array = np.full(size, len(name), np.float32)
    return LazyTensor(name=name, shape=array.shape, dtype=array.dtype, read=lambda: array)


def test_a_folder_appears_only_once_it_is_whole(tmp_path):
    with replacing_folder(tmp_path / "new" / "out") as folder:
        (folder / "config.json").write_text("{}")
        assert not (tmp_path / "new" / "out").exists()
    assert (tmp_path / "new" / "out" / "config.json").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_an_interrupted_block_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "out") as folder:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_not_replaced(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(ValueError, match="out is a file, expected a folder"):
        replacing_folder(tmp_path / "out").__enter__()
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize(
    ("max_bytes", "shards"),
    [
        (1_000, ["model.safetensors"]),
        (
            24,
            [
                "model-00001-of-00003.safetensors",
                "model-00002-of-00003.safetensors",
                "model-00003-of-00003.safetensors",
            ],
        ),
    ],
    ids=["one file", "shards"],
)
def test_tensors_are_split_where_a_file_would_be_too_large(tmp_path, max_bytes, shards):
    tensors = [_lazy("a", 3), _lazy("bb", 3), _lazy("larger than a shard", 10), _lazy("cc", 1)]
    assert write_tensors(tmp_path, tensors, max_shard_bytes=max_bytes) == 4 * 17
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == shards
    read = {tensor.name: tensor.read() for tensor in read_tensors(tmp_path)}
    assert {name: array.size for name, array in read.items()} == {
        t.name: t.shape[0] for t in tensors
    }


def test_a_folder_without_weights_names_what_it_could_hold(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"none of model\.safetensors, .*pytorch_model\.bin"
    ):
        read_tensors(tmp_path)


def test_json_that_is_no_object_is_named(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json holds a JSON list, expected an object"):
        read_json(tmp_path / "config.json")


def test_a_folder_in_the_way_is_replaced_at_once(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("old")
    with replacing_folder(tmp_path / "out") as folder:
        (folder / "config.json").write_text("new")
        assert (tmp_path / "out" / "config.json").read_text() == "old"
    assert (tmp_path / "out" / "config.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_it_is_replaced_where_the_system_cannot_exchange_names(tmp_path, monkeypatch):
    monkeypatch.setattr("codet5p_jax.interop.folders._exchange", lambda first, second: False)
    test_a_folder_in_the_way_is_replaced_at_once(tmp_path)


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(tmp_path):
    left = tmp_path / ".out.partial-killed"
    left.mkdir()
    (left / "model.safetensors").write_text("half")
    other = tmp_path / ".outer.partial-other"
    other.mkdir()
    with replacing_folder(tmp_path / "out") as alive:
        assert not left.exists()
        with replacing_folder(tmp_path / "out") as second:
            assert alive.exists() and second != alive
            (second / "README.md").write_text("second")
        (alive / "README.md").write_text("first")
    assert (tmp_path / "out" / "README.md").read_text() == "first"
    assert {path.name for path in tmp_path.iterdir()} == {"out", other.name}


def test_a_folder_that_may_hold_nothing_is_not_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    with replacing_folder(tmp_path / "out", replaceable=()) as folder:
        (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds other files than would be written .*config\.json"):
        replacing_folder(tmp_path / "out", replaceable=()).__enter__()


def test_a_tensor_in_two_shards_is_named(tmp_path):
    for number in (1, 2):
        write_safetensors(tmp_path / f"{number}.safetensors", [_lazy("a", 3)])
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"'a' is in .*1\.safetensors and in .*2\.safetensors"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    "weight_map", [[], {"a": 3}, {"a": "../elsewhere"}, {"a": "/etc/x"}], ids=str
)
def test_an_index_that_names_no_files_beside_it_is_named(tmp_path, weight_map):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ValueError, match=r"index\.json has a weight_map that is no mapping"):
        read_tensors(tmp_path)


def test_a_truncated_shard_is_named(tmp_path):
    write_tensors(tmp_path, [_lazy("a", 3), _lazy("b", 3)], max_shard_bytes=12)
    shard = tmp_path / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=r"model-00002-of-00002\.safetensors is damaged or cut off"
    ):
        read_tensors(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_told_with_the_folder_and_leaves_nothing(tmp_path, number):
    told = pytest.raises(OSError, match=r"model was not written, .*Make room")
    with told as raised, replacing_folder(tmp_path / "model") as folder:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(number, os.strerror(number))
    assert raised.value.errno == number
    assert list(tmp_path.iterdir()) == []
