import numpy as np
import pytest

from codet5p_jax.interop.folders import read_json, read_tensors, replacing_folder, write_tensors
from codet5p_jax.interop.tensors import LazyTensor


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
    with pytest.raises(ValueError, match="out is a file; an export is a folder"):
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
