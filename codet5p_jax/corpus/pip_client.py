"""Fetches wheels with pip. No code of a package runs: sdists, whose set-up is code, are left."""

import importlib.util
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence

from codet5p_jax.corpus.fetch import (
    Fetched,
    fetch_one_by_one,
    incoming,
    last_error,
    run_client,
)
from codet5p_jax.corpus.recipes import Package

_OPTIONS = (
    *("download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"),
    *("--only-binary=:all:", "--retries=0", "--timeout=10"),
    # the same pure Python wheel whatever machine and Python this is
    *("--platform=any", "--python-version=3.11", "--implementation=py", "--abi=none"),
)


def fetch_wheels(
    packages: Sequence[Package],
    directory: pathlib.Path,
    deadline: float,
    on_done: Callable[[], None],
) -> list[Fetched]:
    """Fetches the wheels of `packages` into `directory`; a `fetch.Client`."""
    missing = [package for package in packages if _wheel(package, directory) is None]
    pip = _pip()
    if not missing or pip is None:
        return _told(packages, directory, on_done, reason="no pip on this machine")
    # One call for all is quickest, but it fetches nothing if one of them is missing.
    reason = _download(pip, missing, directory, deadline=deadline)
    if all(_wheel(package, directory) for package in missing) or len(missing) == 1:
        return _told(packages, directory, on_done, reason=reason)

    def fetch_one(package: Package) -> Fetched:
        wanted = _wheel(package, directory) is None
        why = _download(pip, [package], directory, deadline=deadline) if wanted else ""
        return _result(package, directory, reason=why)

    return fetch_one_by_one(packages, fetch_one, deadline=deadline, on_done=on_done)


def _download(
    pip: Sequence[str], packages: Sequence[Package], directory: pathlib.Path, *, deadline: float
) -> str:
    """Fetches `packages` into `directory`; returns pip's last message, empty if all is well."""
    with tempfile.TemporaryDirectory(dir=incoming(directory)) as folder:
        command = [*pip, *_OPTIONS, f"--dest={folder}", *map(_requirement, packages)]
        result = run_client(command, deadline=deadline)
        if result.code != 0:
            return last_error(result.errors)
        for wheel in pathlib.Path(folder).glob("*.whl"):
            wheel.replace(directory / wheel.name)
    return ""


def _told(
    packages: Sequence[Package],
    directory: pathlib.Path,
    on_done: Callable[[], None],
    *,
    reason: str,
) -> list[Fetched]:
    for _ in packages:
        on_done()
    return [_result(package, directory, reason=reason) for package in packages]


def _result(package: Package, directory: pathlib.Path, *, reason: str) -> Fetched:
    wheel = _wheel(package, directory)
    if wheel is None:
        return Fetched(package=package, reason=reason or "pip fetched no wheel of it")
    return Fetched(package=package, version=wheel.name.split("-")[1], archives=(str(wheel),))


def _pip() -> list[str] | None:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    return None if found is None else [found]


def _requirement(package: Package) -> str:
    return package.name if package.version is None else f"{package.name}=={package.version}"


def _wheel(package: Package, directory: pathlib.Path) -> pathlib.Path | None:
    name = _normalized(package.name)
    wheels = sorted(w for w in directory.glob("*.whl") if _normalized(w.name.split("-")[0]) == name)
    exact = [w for w in wheels if package.version in (None, w.name.split("-")[1])]
    return exact[-1] if exact else None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
