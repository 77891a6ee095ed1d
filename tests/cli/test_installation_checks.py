"""Tests of codet5p_jax.cli.installation_checks: wrong packages are put on sys.path for real."""

import shlex
import sys

import pytest

from codet5p_jax.cli import installation_checks
from codet5p_jax.cli.findings import Severity


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Returns a function that puts a distribution before the installed ones."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, version, requires=(), module=None):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))
        if module is not None:
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(module)

    return write


def _only(findings):
    (finding,) = findings
    return finding


def test_this_python_and_these_packages_are_well():
    assert installation_checks.python_version().severity is Severity.OK
    found = installation_checks.package_versions()
    assert {finding.severity for finding in found} == {Severity.OK}


def test_a_python_outside_the_range_is_a_problem():
    found = installation_checks.python_version(running="3.10.2")
    assert found.severity is Severity.PROBLEM
    assert "3.10.2" in found.what and "needs >=3.11,<3.14" in found.what


def test_a_package_outside_its_range_is_a_problem_with_the_command_that_mends_it(install):
    install("gin-config", "9.0")
    bad = _only(installation_checks.package_versions()[1:])
    assert bad.severity is Severity.PROBLEM
    assert bad.what == "9.0, but codet5p_jax needs gin-config<0.6,>=0.5"
    words = shlex.split(bad.mend)
    assert words[1:] == ["-m", "pip", "install", "gin-config<0.6,>=0.5"]


def test_a_missing_package_is_a_problem_and_one_of_an_extra_is_not():
    found = installation_checks.package_versions(
        ["no-such-package>=1", "no-such-extra>=2; extra == 'hf'"]
    )
    bad = _only(found[1:])
    assert bad.what == "not installed, but codet5p_jax needs no-such-package>=1"


def test_a_package_of_an_extra_outside_its_range_is_a_warning(install):
    install("some-extra", "3.0")
    bad = _only(installation_checks.package_versions(["some-extra<3; extra == 'hf'"])[1:])
    assert bad.severity is Severity.WARNING
    assert bad.what == "3.0, but the extra asks for some-extra<3"


def test_sentencepiece_and_protobuf_clash_from_0_2_1_and_6_on(install):
    install("protobuf", "6.33.6")
    install("sentencepiece", "0.2.1")
    bad = _only(installation_checks.sentencepiece_clash())
    assert bad.severity is Severity.PROBLEM
    assert "0.2.1 with protobuf 6.33.6" in bad.what and "'sentencepiece<0.2.1'" in bad.mend


@pytest.mark.parametrize("sentencepiece, protobuf", [("0.2.0", "6.33.6"), ("0.2.1", "5.29")])
def test_one_of_the_two_alone_does_not_clash(install, sentencepiece, protobuf):
    install("protobuf", protobuf)
    install("sentencepiece", sentencepiece)
    assert installation_checks.sentencepiece_clash() == []


def test_a_jaxlib_that_jax_does_not_want_is_a_problem(install):
    install("jax", "0.10.2", requires=["jaxlib<=0.10.2,>=0.10.1"])
    install("jaxlib", "0.9.0")
    bad = _only(installation_checks.jaxlib_clash())
    assert bad.what == "0.9.0, but jax 0.10.2 needs jaxlib<=0.10.2,>=0.10.1"
    assert "'jaxlib<=0.10.2,>=0.10.1'" in bad.mend


def test_libtpu_is_judged_by_what_jax_wants(install):
    assert installation_checks.libtpu_clash() == []
    install("jax", "0.10.2", requires=["libtpu==0.0.42.*; extra == 'tpu'", "jaxlib"])
    install("libtpu", "0.0.41")
    bad = _only(installation_checks.libtpu_clash())
    assert bad.severity is Severity.PROBLEM
    assert bad.what == "0.0.41, but jax 0.10.2 needs libtpu==0.0.42.*"


def test_the_libtpu_that_jax_wants_is_well(install):
    install("jax", "0.10.2", requires=["libtpu==0.0.42.*; extra == 'tpu'"])
    install("libtpu", "0.0.42.1")
    assert _only(installation_checks.libtpu_clash()).severity is Severity.OK


def test_torch_with_cuda_beside_jax_with_cuda_and_triton_are_warnings(install):
    install("torch", "2.13.0", requires=["nvidia-cudnn-cu13==9.0; platform_system == 'Linux'"])
    install("jax-cuda13-plugin", "0.10.2")
    install("triton", "3.0", module="")
    torch, triton = installation_checks.torch_clashes()
    assert torch.severity is triton.severity is Severity.WARNING
    assert "2.13.0 brings CUDA libraries beside those of jax-cuda13-plugin" in torch.what
    assert torch.mend.endswith("pip uninstall --yes torch")
    assert triton.mend.endswith("pip uninstall --yes triton")


def test_imports_that_work_hand_on_what_the_program_behind_them_printed():
    found, line = installation_checks.start_imports(["json"], then="print(json.dumps([1]))")()
    assert [finding.what for finding in found] == ["works"] and line == "[1]"


@pytest.mark.parametrize(
    "module, severity, what",
    [
        (
            "raise ImportError('libcudart.so.13 is missing')",
            "problem",
            "libcudart.so.13 is missing",
        ),
        ("import os; os.kill(os.getpid(), 11)", "problem", "dies of signal 11"),
        ("import time; time.sleep(60)", "warning", "not done in 2 s"),
    ],
)
def test_a_brittle_package_is_found(install, monkeypatch, tmp_path, module, severity, what):
    install("brittle", "1.0", module=module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found, line = installation_checks.start_imports(["json", "brittle"], timeout=2.0)()
    good, bad = found
    assert (good.subject, good.what) == ("import json", "works")
    assert bad.severity == severity and what in bad.what and "brittle" in bad.mend
    assert line is None


def test_a_package_that_is_absent_is_found_without_importing_the_others():
    found, line = installation_checks.start_imports(["json", "no_such_module"])()
    bad = _only(found)
    assert bad.subject == "import no_such_module" and bad.what.startswith("not installed")
    assert bad.mend.endswith("-m pip install no_such_module") and line is None


def test_commands_name_the_python_that_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    bad = _only(installation_checks.package_versions(["no-such-package>=1"])[1:])
    assert shlex.split(bad.mend)[0] == sys.executable
