"""Tests of codet5p_jax.cli.machine_checks."""

import os
import pathlib

import pytest

from codet5p_jax.cli import machine_checks
from codet5p_jax.cli.findings import Severity

GIB = 2**30


@pytest.fixture
def libtpu(tmp_path, monkeypatch):
    """A libtpu that can be found; it is never imported."""
    (tmp_path / "libtpu.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)


def test_devices_are_counted_by_kind():
    variables = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "3"}
    found = machine_checks.ask_for_devices(environment=variables, timeout=60.0)()
    assert (found.severity, found.what) == (Severity.OK, "3 x cpu (cpu)")


def test_a_platform_that_jax_does_not_know_is_a_problem():
    variables = {**os.environ, "JAX_PLATFORMS": "abacus"}
    found = machine_checks.ask_for_devices(environment=variables, timeout=60.0)()
    assert found.severity is Severity.PROBLEM
    assert "abacus" in found.what and found.mend == "export JAX_PLATFORMS=cpu"


def test_devices_that_do_not_answer_are_a_problem():
    found = machine_checks.ask_for_devices(environment=os.environ, timeout=0.05)()
    assert found.severity is Severity.PROBLEM and "has not found them" in found.what


def test_libtpu_without_a_tpu_waits_unless_jax_platforms_is_set(libtpu):
    (found,) = machine_checks.tpu_variables({})
    assert found.severity is Severity.PROBLEM and found.mend == "export JAX_PLATFORMS=cpu"
    assert machine_checks.tpu_variables({"JAX_PLATFORMS": "cpu"}) == []


def test_without_libtpu_nothing_waits():
    assert machine_checks.tpu_variables({}) == []


def test_variables_of_a_tpu_are_listed():
    (found,) = machine_checks.tpu_variables({"TPU_WORKER_ID": "3", "LIBTPU_INIT_ARGS": "--a=1"})
    assert found.what == "LIBTPU_INIT_ARGS=--a=1, TPU_WORKER_ID=3"


def test_a_variable_that_is_misread_is_a_finding_behind_the_list():
    variables = {"TPU_HOST_BOUNDS": "2x2", "JAX_PLATFORMS": "cpu"}
    listed, found = machine_checks.tpu_variables(variables)
    assert listed.severity is Severity.OK and found.subject == "TPU_HOST_BOUNDS"


def test_flags_of_a_tpu_in_xla_flags_are_a_problem():
    (found,) = machine_checks.tpu_variables({"XLA_FLAGS": "--xla_tpu_scoped_vmem_limit_kib=65536"})
    assert found.severity is Severity.PROBLEM and "export LIBTPU_INIT_ARGS" in found.mend


@pytest.mark.parametrize(
    "platforms, installed, severity, mend",
    [
        ("", True, "ok", None),
        ("tpu,cpu", True, "ok", None),
        ("cpu", True, "warning", "unset JAX_PLATFORMS"),
        ("", False, "warning", "EXTRAS=dev,tpu bash launch/install.sh"),
    ],
)
def test_a_tpu_that_jax_will_not_use_is_found(request, platforms, installed, severity, mend):
    if installed:
        request.getfixturevalue("libtpu")
    variables = {"JAX_PLATFORMS": platforms}
    (found,) = machine_checks.accelerator_in_use(variables, tpus=True, gpus=False)
    assert (found.severity, found.mend) == (severity, mend)


def test_a_gpu_without_jax_for_cuda_is_found():
    (found,) = machine_checks.accelerator_in_use({}, tpus=False, gpus=True)
    assert found.severity is Severity.WARNING
    assert found.mend == "EXTRAS=dev,cuda bash launch/install.sh"


def test_a_gpu_may_be_named_gpu_or_cuda(tmp_path, monkeypatch):
    (tmp_path / "jax_cuda13_plugin.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("gpu", "cuda"):
        variables = {"JAX_PLATFORMS": name}
        (found,) = machine_checks.accelerator_in_use(variables, tpus=False, gpus=True)
        assert found.severity is Severity.OK


@pytest.mark.parametrize(
    "free, severity", [(GIB - 1, "problem"), (GIB, "warning"), (10 * GIB, "ok")]
)
def test_disks_are_judged_by_what_is_free(free, severity):
    found = machine_checks.judged_disk(free, folder=pathlib.Path("/data"))
    assert found.severity == severity and "GiB free in /data" in found.what


def test_the_disk_of_a_folder_to_be_made_is_that_of_the_one_above(tmp_path):
    found = machine_checks.disk(tmp_path / "not" / "yet")
    assert found.what.partition(" in ")[2].partition(";")[0] == str(tmp_path)


def test_memory_is_that_of_the_container_where_it_has_less(tmp_path):
    information, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    information.write_text("MemTotal: 33554432 kB\nMemFree: 1 kB\nMemAvailable: 16777216 kB\n")
    (found,) = machine_checks.memory(information, (limit,))
    assert found.what.startswith("16.0 GiB available of 32.0 GiB")
    limit.write_text("max\n")
    assert machine_checks.memory(information, (limit,)) == [found]
    limit.write_text(f"{2 * GIB}\n")
    (found,) = machine_checks.memory(information, (limit,))
    assert found.severity is Severity.WARNING
    assert found.what.startswith("2.0 GiB available of 2.0 GiB")
