import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from codet5p_jax.interop.tensors import LazyTensor, read_safetensors, write_safetensors

ARRAYS = {
    "odd": np.arange(3, dtype=np.int8),  # three bytes would misalign what comes behind
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([1.5, -2.0], np.float16),
    "empty": np.zeros([0, 4], np.float32),
    "scalar": np.array(7, np.int64),
}


def _lazy(name, array):
    return LazyTensor(name=name, shape=array.shape, dtype=array.dtype, read=lambda: array)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_what_we_write_the_safetensors_library_reads(path):
    size = write_safetensors(path, [_lazy(*item) for item in ARRAYS.items()])
    assert path.stat().st_size == size
    loaded = safetensors.numpy.load_file(path)
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(loaded[name], array, strict=True)


def test_what_the_safetensors_library_writes_we_read(path):
    safetensors.numpy.save_file(ARRAYS, path, metadata={"format": "pt"})
    loaded = {tensor.name: tensor for tensor in read_safetensors(path)}
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(loaded[name].read(), array, strict=True)


def test_bfloat16_survives_bit_for_bit(path):
    array = np.arange(8, dtype=np.float32).astype(ml_dtypes.bfloat16) / 3
    write_safetensors(path, [_lazy("x", array)])
    (tensor,) = read_safetensors(path)
    np.testing.assert_array_equal(tensor.read().view(np.uint16), array.view(np.uint16))


def test_a_transposed_view_is_written_in_its_own_order(path):
    write_safetensors(path, [_lazy("x", ARRAYS["matrix"].T)])
    np.testing.assert_array_equal(safetensors.numpy.load_file(path)["x"], ARRAYS["matrix"].T)


def test_tensors_are_read_one_after_the_other(path):
    alive = []

    def read(name):
        alive.append(name)
        return np.zeros(4, np.float32)

    names = ["a", "b", "c"]
    tensors = [
        LazyTensor(name=n, shape=(4,), dtype=np.dtype("float32"), read=lambda n=n: read(n))
        for n in names
    ]
    assert alive == []
    write_safetensors(path, tensors)
    assert alive == names


def test_equal_names_are_an_error(path):
    with pytest.raises(ValueError, match="'x' would be written twice"):
        write_safetensors(path, [_lazy("x", ARRAYS["half"])] * 2)


def test_a_dtype_without_code_is_an_error(path):
    with pytest.raises(ValueError, match=r"'x' has dtype complex64.*Supported: float64"):
        write_safetensors(path, [_lazy("x", np.zeros(1, np.complex64))])


def test_a_tensor_that_is_not_what_it_announced_is_an_error(path):
    tensor = LazyTensor(
        name="x", shape=(3,), dtype=np.dtype("float32"), read=lambda: np.zeros(2, np.float32)
    )
    with pytest.raises(ValueError, match=r"'x' was announced as float32\[3\] but is float32\[2\]"):
        write_safetensors(path, [tensor])


@pytest.mark.parametrize(
    ("keep", "message"),
    [(4, "its header is cut off"), (40, "its header is cut off"), (-5, "damaged or cut off")],
)
def test_a_truncated_file_is_named(path, keep, message):
    safetensors.numpy.save_file(ARRAYS, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"model.safetensors.*{message}"):
        read_safetensors(path)


def test_a_file_of_another_kind_is_named(path):
    path.write_bytes((8).to_bytes(8, "little") + b"not json" + bytes(100))
    with pytest.raises(ValueError, match=r"model\.safetensors is no safetensors file"):
        read_safetensors(path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}, "'x' of .* has dtype F8_E4M3"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, "takes 8 bytes .* needs 12"),
    ],
)
def test_an_entry_that_cannot_be_read_is_named(path, entry, message):
    header = json.dumps({"x": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(entry["data_offsets"][1]))
    with pytest.raises(ValueError, match=message):
        read_safetensors(path)
