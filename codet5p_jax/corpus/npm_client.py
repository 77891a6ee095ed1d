"""Fetches npm packages with `npm pack`. No script of a package runs."""

import pathlib
import re
import shutil
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
    *("pack", "--ignore-scripts", "--fetch-retries=0", "--fetch-timeout=20000"),
    *("--no-audit", "--no-fund", "--no-update-notifier"),
)


def fetch_npm_packages(
    packages: Sequence[Package],
    directory: pathlib.Path,
    deadline: float,
    on_done: Callable[[], None],
) -> list[Fetched]:
    """Fetches the archives of `packages` into `directory`; a `fetch.Client`."""
    npm = shutil.which("npm")

    def fetch_one(package: Package) -> Fetched:
        place, reason = _place(package, directory), ""
        if npm is None and _archive(package, place) is None:
            reason = "no npm on this machine"
        elif npm is not None and _archive(package, place) is None:
            reason = _pack(npm, package, place, deadline=deadline)
        return _result(package, place, reason=reason)

    return fetch_one_by_one(packages, fetch_one, deadline=deadline, on_done=on_done, workers=2)


def _pack(npm: str, package: Package, place: pathlib.Path, *, deadline: float) -> str:
    """Fetches `package` into `place`; returns npm's last message, empty if all is well."""
    with tempfile.TemporaryDirectory(dir=incoming(place)) as folder:
        wanted = f"{package.name}@{package.version or 'latest'}"
        command = [npm, *_OPTIONS, f"--pack-destination={folder}", wanted]
        result = run_client(command, deadline=deadline, directory=folder)
        if result.code != 0:
            return last_error(result.errors)
        for archive in pathlib.Path(folder).glob("*.tgz"):
            archive.replace(place / archive.name)
    return ""


def _result(package: Package, place: pathlib.Path, *, reason: str) -> Fetched:
    archive = _archive(package, place)
    if archive is None:
        return Fetched(package=package, reason=reason or "npm fetched no archive of it")
    return Fetched(package=package, version=_version(archive), archives=(str(archive),))


def _place(package: Package, directory: pathlib.Path) -> pathlib.Path:
    return directory / re.sub(r"[^\w.-]+", "_", package.name)


def _archive(package: Package, place: pathlib.Path) -> pathlib.Path | None:
    found = [a for a in sorted(place.glob("*.tgz")) if package.version in (None, _version(a))]
    return found[-1] if found else None


def _version(archive: pathlib.Path) -> str:
    found = re.search(r"-(\d[^/]*)\.tgz$", archive.name)
    return found.group(1) if found else ""
