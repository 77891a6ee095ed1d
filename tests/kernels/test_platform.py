"""Tests of codet5p_jax.kernels.platform."""

import jax
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from codet5p_jax.kernels import platform as module
from codet5p_jax.kernels.platform import compute_capability, platform, vmem_bytes


def _mesh(kind, cores):
    device = AbstractDevice(kind, cores, platform="tpu")
    return AbstractMesh((4,), ("data",), abstract_device=device)


@pytest.mark.parametrize(
    ("kind", "cores", "mib"),
    [("TPU v4", 1, 16), ("TPU v5 lite", 1, 128), ("TPU v5", 1, 64), ("TPU v6 lite", 1, 128)],
)
def test_a_mesh_in_force_says_what_is_compiled_for(kind, cores, mib):
    with jax.sharding.use_abstract_mesh(_mesh(kind, cores)):
        assert platform() == "tpu"
        assert vmem_bytes() == mib * 2**20 - 2**17


def test_without_a_mesh_it_is_this_machine():
    assert platform() == jax.default_backend() == "cpu"
    assert vmem_bytes() == 128 * 2**20 - 2**17


@pytest.mark.parametrize(
    ("told", "capability"), [("8.6", 8.6), ("10.0", 10.0), ("gfx90a", 0.0), (None, 0.0)]
)
def test_only_nvidias_gpus_have_a_compute_capability(told, capability, monkeypatch):
    class Device:
        compute_capability = told

    monkeypatch.setattr(module.jax, "devices", lambda: [Device()])
    assert compute_capability() == capability
