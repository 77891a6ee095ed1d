import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


HEADER = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "F16", "shape": [4], "data_offsets": [24, 32]},
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
OFFSETS = st.integers(-1, 40) | st.integers()


def _file(header, *, length=None, data=32):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    return length.to_bytes(8, "little") + text + bytes(data)


def _with(name, **changes):
    return {**HEADER, name: {**HEADER[name], **changes}}


# Ten ways of damaging a file, and each with anything at all in the place that is damaged.
DAMAGES = {
    "cut off": st.integers(0, len(_file(HEADER)) - 1).map(lambda n: _file(HEADER)[:n]),
    "too long": st.binary(min_size=1, max_size=9).map(lambda more: _file(HEADER) + more),
    "another length": st.integers(0, 2**64 - 1).map(lambda n: _file(HEADER, length=n)),
    "bytes changed": st.tuples(
        st.integers(8, len(_file(HEADER)) - 33), st.binary(min_size=1, max_size=4)
    ).map(lambda at: _file(HEADER)[: at[0]] + at[1] + _file(HEADER)[at[0] + len(at[1]) :]),
    "no object": ANYTHING.map(_file),
    "an entry of another kind": ANYTHING.map(lambda value: _file({**HEADER, "a": value})),
    "another dtype": ANYTHING.map(lambda value: _file(_with("a", dtype=value))),
    "another shape": (ANYTHING | st.lists(OFFSETS)).map(
        lambda value: _file(_with("a", shape=value))
    ),
    "other offsets": (ANYTHING | st.lists(OFFSETS)).map(
        lambda value: _file(_with("b", data_offsets=value))
    ),
    "a name twice": st.sampled_from("ab").map(
        lambda name: _file(
            json.dumps(HEADER)[:-1].encode() + f', "{name}": {json.dumps(HEADER[name])}}}'.encode()
        )
    ),
    "nested without end": st.integers(1_000, 100_000).map(lambda n: _file(b"[" * n)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_named_or_read_as_what_it_says(path, damage, data):
    contents = data.draw(damage)
    path.write_bytes(contents)
    try:
        tensors = read_safetensors(path)
    except ValueError as error:
        assert "model.safetensors" in str(error)
        return
    # What is left is a whole file after all: then it is read as the library reads it.
    read = {tensor.name: tensor.read() for tensor in tensors}
    assert sum(array.nbytes for array in read.values()) <= len(contents)
    assert all(tensor.shape == read[tensor.name].shape for tensor in tensors)


def test_the_file_that_is_damaged_is_read_when_whole(path):
    path.write_bytes(_file(HEADER))
    assert {t.name: t.read().shape for t in read_safetensors(path)} == {"a": (2, 3), "b": (4,)}


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (_file([]), "its header is a JSON list, expected an object"),
        (_file({"a": 3}), "describes tensor 'a' as 3, expected dtype, shape and two data_offsets"),
        (
            _file(_with("b", data_offsets=[20, 28])),
            "'b' begins at byte 20 of the data, expected 24",
        ),
        (_file(_with("b", data_offsets=[26, 34]), data=34), "'b' begins at byte 26 of the data"),
        (_file(HEADER, data=33), "announces 32 bytes of tensors, the file holds 33"),
        (_file(b'{"a": 1, "a": 2}'), "its header is not JSON .a name occurs twice."),
    ],
)
def test_what_is_damaged_is_told(path, contents, message):
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=f"model.safetensors .*{message}"):
        read_safetensors(path)
