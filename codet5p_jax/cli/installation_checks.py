"""Checks of Python and of the installed packages; none of them imports what it checks."""

import functools
import importlib.util
import os
import pathlib
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from codet5p_jax.cli.child_process import ChildProcess
from codet5p_jax.cli.findings import Finding, last_line, ok, problem, warning

PACKAGE = "codet5p_jax"
DATA_PACKAGES = ("tensorflow", "seqio")
_FIRST_WITH_CLASH = Version("0.2.1")  # of sentencepiece


def python_version(running: str | None = None) -> Finding:
    """Compares Python with what codet5p_jax asks for.

    Args:
        running: Version to judge; None means that of this process.
    """
    running = running or platform.python_version()
    wanted = _requires_python()
    found = f"{running} ({sys.executable})"
    if Version(running) in SpecifierSet(wanted):
        return ok("Python", found)
    return problem(
        "Python",
        f"{found}, but {PACKAGE} needs {wanted}",
        mend="rm -rf .venv && make setup PYTHON=python3.11",
    )


def package_versions(requirements: Sequence[str] | None = None) -> list[Finding]:
    """Compares each required package with its range; those of extras only where installed.

    Args:
        requirements: As in a wheel's metadata; None means those of codet5p_jax.
    """
    if requirements is None:
        requirements = _requirements(PACKAGE)
    if requirements is None:
        return [
            problem(
                PACKAGE,
                "is not installed, so its requirements are not known",
                mend=_pip("-e", _repository()),
            )
        ]
    fitting, findings = [], []
    for requirement in map(Requirement, requirements):
        finding = _requirement_finding(requirement)
        if finding is not None:
            findings.append(finding)
        elif _is_required(requirement):
            fitting.append(requirement.name)
    return [ok("packages", f"{len(fitting)} installed in the versions asked for"), *findings]


def main_versions(names: Sequence[str] = ("jax", "flax", "tensorflow", "seqio")) -> Finding:
    """Names the versions that a bug report should hold."""
    versions = [f"{name} {_installed(name) or 'absent'}" for name in names]
    return ok("versions", ", ".join(versions))


def sentencepiece_clash() -> list[Finding]:
    """Finds the pair of versions with which `import seqio` fails."""
    sentencepiece, protobuf = _installed("sentencepiece"), _installed("protobuf")
    if sentencepiece is None or protobuf is None:
        return []
    if Version(sentencepiece) < _FIRST_WITH_CLASH or Version(protobuf) < Version("6"):
        return []
    return [
        problem(
            "sentencepiece",
            f"{sentencepiece} with protobuf {protobuf}: seqio cannot be imported",
            mend=_pip(f"sentencepiece<{_FIRST_WITH_CLASH}"),
        )
    ]


def jaxlib_clash() -> list[Finding]:
    """Finds a jaxlib of another version than jax asks for."""
    wanted = next((r for r in _jax_requirements("") if r.name == "jaxlib"), None)
    installed = _installed("jaxlib")
    if wanted is None or installed is None or installed in wanted.specifier:
        return []
    what = f"{installed}, but jax {_installed('jax')} needs jaxlib{wanted.specifier}"
    return [problem("jaxlib", what, mend=_pip(str(wanted).partition(";")[0].strip()))]


def libtpu_clash() -> list[Finding]:
    """Finds a libtpu of another version than jax asks for."""
    wanted = next((r for r in _jax_requirements("tpu") if r.name == "libtpu"), None)
    installed = _installed("libtpu")
    if wanted is None or installed is None:
        return []
    if installed in wanted.specifier:
        return [ok("libtpu", f"{installed}, which jax {_installed('jax')} asks for")]
    what = f"{installed}, but jax {_installed('jax')} needs libtpu{wanted.specifier}"
    return [problem("libtpu", what, mend=_pip(f"libtpu{wanted.specifier}"))]


def torch_clashes() -> list[Finding]:
    """Finds a torch that brings CUDA libraries, or triton, beside JAX's and TensorFlow's."""
    findings = []
    torch = _installed("torch")
    plugin = next((p for p in ("jax-cuda13-plugin", "jax-cuda12-plugin") if _installed(p)), None)
    if torch and plugin and _wants_cuda("torch"):
        what = f"{torch} brings CUDA libraries beside those of {plugin}; `verify` alone needs it"
        findings.append(warning("torch", what, mend=_uninstall("torch")))
    if importlib.util.find_spec("triton") and _installed("tensorflow"):
        what = "imported after TensorFlow, triton crashes Python; torch with CUDA brings it"
        findings.append(warning("triton", what, mend=_uninstall("triton")))
    return findings


def start_imports(
    names: Sequence[str] = DATA_PACKAGES, *, then: str = "", timeout: float = 17.0
) -> Callable[[], tuple[list[Finding], str | None]]:
    """Starts to import packages in a process of its own, which may crash or hang without harm.

    Args:
        names: In the order of import.
        then: Program to run in that process behind the imports.
        timeout: Seconds for all of it.

    Returns:
        What waits for the end, and returns the findings and the line that `then` printed; None
        instead of a line if it did not come to its end.
    """
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    if absent:
        findings = [_absent_package(name) for name in absent]
        return lambda: (findings, None)
    program = [f"import {name}; print({name!r}, flush=True)" for name in names]
    child = ChildProcess("\n".join([*program, then]), timeout=timeout)
    return functools.partial(_imports, child, names)


def _imports(child: ChildProcess, names: Sequence[str]) -> tuple[list[Finding], str | None]:
    child.wait()
    lines = child.stdout.splitlines()
    findings = [ok(f"import {name}", "works") for name in names if name in lines]
    failed = next((name for name in names if name not in lines), None)
    if failed is not None:
        return [*findings, _failed_import(failed, child)], None
    return findings, None if child.returncode else lines[-1]


def _failed_import(name: str, child: ChildProcess) -> Finding:
    subject = f"import {name}"
    if child.stopped:
        what = f"not done in {child.timeout:.0f} s: a slow disk, a busy machine, or it hangs"
        return warning(subject, what, mend=f"time {_python()} -c 'import {name}'")
    mend = _pip("--force-reinstall", _as_required(name))
    if child.returncode < 0:
        return problem(subject, f"dies of signal {-child.returncode}", mend=mend)
    return problem(subject, f"fails: {last_line(child.stderr)}", mend=mend)


def _absent_package(name: str) -> Finding:
    what = "not installed; corpora, tokenizers and training need it"
    return problem(f"import {name}", what, mend=_pip(_as_required(name)))


def _requirement_finding(requirement: Requirement) -> Finding | None:
    """Returns what is wrong with a requirement; None if nothing is."""
    installed = _installed(requirement.name)
    name, specifier = requirement.name, requirement.specifier
    mend = _pip(f"{name}{specifier}")
    if _is_required(requirement):
        if installed is None:
            return problem(name, f"not installed, but {PACKAGE} needs {name}{specifier}", mend=mend)
        if not specifier.contains(installed, prereleases=True):
            return problem(name, f"{installed}, but {PACKAGE} needs {name}{specifier}", mend=mend)
    elif installed is not None and not specifier.contains(installed, prereleases=True):
        return warning(name, f"{installed}, but the extra asks for {name}{specifier}", mend=mend)
    return None


def _is_required(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _wants_cuda(name: str) -> bool:
    return "+cu" in (_installed(name) or "") or any(
        requirement.startswith("nvidia-") for requirement in _requirements(name) or ()
    )


def _jax_requirements(extra: str) -> Iterator[Requirement]:
    """Yields what the installed jax requires with an extra; "" means with none."""
    for requirement in map(Requirement, _requirements("jax") or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def _as_required(name: str) -> str:
    for requirement in map(Requirement, _requirements(PACKAGE) or ()):
        if requirement.name == name:
            return f"{name}{requirement.specifier}"
    return name


def _requirements(name: str) -> list[str] | None:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return None


def _requires_python() -> str:
    try:
        return metadata.metadata(PACKAGE)["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        return ""


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _repository() -> str:
    return str(pathlib.Path(__file__).parents[2])


def _uninstall(package: str) -> str:
    return shlex.join([_python(), "-m", "pip", "uninstall", "--yes", package])


def _pip(*words: str) -> str:
    """Returns the command that installs with this very Python."""
    return shlex.join([_python(), "-m", "pip", "install", *words])


def _python() -> str:
    relative = os.path.relpath(sys.executable)
    return sys.executable if relative.startswith("..") else relative
