"""Fetches npm packages with `npm pack`. No script of a package runs."""

import pathlib
import re
import shutil
from collections.abc import Callable, Sequence

from codet5p_jax.corpus.fetch import Fetched, fetch_one_by_one, last_error, run_client
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
        folder = directory / re.sub(r"[^\w.-]+", "_", package.name)
        reason = ""
        if not _archives(folder):
            if npm is None:
                return Fetched(package=package, reason="no npm on this machine")
            folder.mkdir(parents=True, exist_ok=True)
            wanted = f"{package.name}@{package.version or 'latest'}"
            command = [npm, *_OPTIONS, f"--pack-destination={folder}", wanted]
            reason = last_error(run_client(command, deadline=deadline, directory=folder).errors)
        return _result(package, folder, reason=reason)

    return fetch_one_by_one(packages, fetch_one, deadline=deadline, on_done=on_done, workers=2)


def _result(package: Package, folder: pathlib.Path, *, reason: str) -> Fetched:
    archives = _archives(folder)
    if not archives:
        return Fetched(package=package, reason=reason)
    version = archives[-1].name.removesuffix(".tgz").rpartition("-")[2]
    return Fetched(package=package, version=version, archives=(str(archives[-1]),))


def _archives(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.glob("*.tgz"))
