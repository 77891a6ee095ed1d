import pickle

import numpy as np
import pytest

from codet5p_jax.interop.pytorch_files import read_pytorch


class Malicious:
    def __reduce__(self):
        return print, ("this code must not run",)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pytorch_model.bin"


def test_tensors_are_read_in_their_own_dtype(torch, path):
    torch.save({"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.bfloat16) / 3}, path)
    tensors = {tensor.name: tensor for tensor in read_pytorch(path)}
    np.testing.assert_array_equal(tensors["a"].read(), np.arange(3, dtype=np.float32))
    assert tensors["b"].dtype.name == "bfloat16" and tensors["b"].shape == (2, 2)
    assert tensors["b"].read().view(np.uint16).tolist() == [[0x3EAB] * 2] * 2


@pytest.mark.parametrize("new", [True, False], ids=["zip", "bare pickle"])
def test_a_pickle_with_code_is_refused_and_named(torch, path, new, capsys):
    torch.save({"a": Malicious()}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin cannot be read as weights alone"):
        read_pytorch(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("keep", [0, 1, 2, 100, -1, -100], ids=str)
def test_a_truncated_file_is_named(torch, path, keep):
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"pytorch_model\.bin cannot be read .* it is damaged"):
        read_pytorch(path)


def test_a_file_without_names_is_named(torch, path):
    torch.save([torch.zeros(3)], path)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin holds a list, expected a state dict"):
        read_pytorch(path)


@pytest.mark.parametrize("value", ["text", 3], ids=str)
def test_what_is_no_tensor_is_named(torch, path, value):
    torch.save({"epoch": value}, path)
    with pytest.raises(ValueError, match=r"holds 'epoch' of type \w+; expected a tensor of .*fl"):
        read_pytorch(path)


def test_a_dtype_that_numpy_lacks_is_named(torch, path):
    torch.save({"a": torch.zeros(3).to(torch.float8_e4m3fn)}, path)
    with pytest.raises(ValueError, match=r"'a' of type torch.float8_e4m3fn; expected a tensor of"):
        read_pytorch(path)


def test_a_plain_pickle_is_refused(torch, path):
    path.write_bytes(pickle.dumps({"a": Malicious()}, protocol=2))
    with pytest.raises(ValueError, match="holds Python objects, which could run code"):
        read_pytorch(path)
