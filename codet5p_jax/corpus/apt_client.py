"""Fetches source packages with apt-get, without root and without touching the machine's settings.

The machine's own package sources are copied to a private list that asks for source packages, and
apt gets private folders for its state and its cache.
"""

import concurrent.futures
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

from codet5p_jax.corpus.fetch import (
    CommandResult,
    Fetched,
    incoming,
    last_error,
    run_client,
)
from codet5p_jax.corpus.recipes import Package

_ATTEMPTS = 2
_PROCESSES = 4  # one apt-get fetches from one server one file after another
_URI = re.compile(r"^'[^']*' (\S+) (\d+)", re.MULTILINE)
_ENABLED = re.compile(r"^Enabled:\s*(?:no|false|0)\s*$", re.MULTILINE | re.IGNORECASE)


def fetch_source_packages(
    packages: Sequence[Package],
    directory: pathlib.Path,
    deadline: float,
    on_done: Callable[[], None],
) -> list[Fetched]:
    """Fetches the source archives of `packages` into `directory`; a `fetch.Client`."""
    missing = [package.name for package in packages if not _archives(package.name, directory)]
    reasons: dict[str, str] = {}
    if missing and shutil.which("apt-get") is None:
        reasons = dict.fromkeys(missing, "no apt-get on this machine")
    elif missing:
        with tempfile.TemporaryDirectory(prefix="codet5p-apt-") as private:
            apt = _Apt(pathlib.Path(private), deadline)
            reasons = _fetch_missing(apt, missing, directory, on_done=on_done)
    for _ in range(len(packages) - len(set(missing) - set(reasons))):
        on_done()  # those that were there, and those that are told as missing
    return [_result(package, directory, reasons.get(package.name, "")) for package in packages]


def _fetch_missing(
    apt: "_Apt", names: Sequence[str], directory: pathlib.Path, *, on_done: Callable[[], None]
) -> dict[str, str]:
    """Fetches the source packages `names`; returns why, for those that could not be fetched."""
    message = apt.update()
    known = apt.known(names)
    reasons = dict.fromkeys(set(names) - set(known), message or "apt knows no such source package")
    sizes = apt.file_sizes(known)
    errors = ""
    for _ in range(_ATTEMPTS):
        wanted = [name for name in known if not _archives(name, directory)]
        errors = _download(apt, wanted, directory, sizes=sizes, on_done=on_done)
    failed = (name for name in known if not _archives(name, directory))
    return reasons | {name: _reason(name, errors) for name in failed}


def _download(
    apt: "_Apt",
    names: Sequence[str],
    directory: pathlib.Path,
    *,
    sizes: Mapping[str, int],
    on_done: Callable[[], None],
) -> str:
    """Fetches `names`, some side by side; whole files go to `directory`. Returns apt's messages."""
    folder, waiting = incoming(directory), set(names)
    with concurrent.futures.ThreadPoolExecutor(_PROCESSES) as pool:
        jobs = [pool.submit(apt.fetch, group, folder) for group in _balanced(names, sizes)]
        while waiting and concurrent.futures.wait(jobs, timeout=0.5).not_done:
            arrived = {name for name in waiting if _is_whole(name, folder, sizes)}
            waiting -= arrived
            for _ in arrived:
                on_done()
    for file in folder.iterdir():
        if file.stat().st_size == sizes.get(file.name):
            file.replace(directory / file.name)
    for name in waiting:
        if _archives(name, directory):
            on_done()
    return "\n".join(job.result() for job in jobs)


def _is_whole(name: str, folder: pathlib.Path, sizes: Mapping[str, int]) -> bool:
    found = _archives(name, folder)
    return bool(found) and all(file.stat().st_size == sizes.get(file.name) for file in found)


def _balanced(names: Sequence[str], sizes: Mapping[str, int]) -> list[list[str]]:
    """`names` in groups of about equal size, the largest package of each group first."""
    of_name = {
        name: sum(size for file, size in sizes.items() if file.startswith(f"{name}_"))
        for name in names
    }
    groups: list[list[str]] = [[] for _ in range(_PROCESSES)]
    for name in sorted(names, key=lambda name: -of_name[name]):
        min(groups, key=lambda group: sum(of_name[n] for n in group)).append(name)
    return [group for group in groups if group]


def _reason(name: str, errors: str) -> str:
    own = [line for line in errors.splitlines() if f"/{name}_" in line or f" {name}" in line]
    missing = any("404" in line for line in own)
    return "its archive is missing upstream (404)" if missing else last_error("\n".join(own))


class _Apt:
    """apt with private lists; every call ends by the deadline."""

    def __init__(self, private: pathlib.Path, deadline: float):
        self._private = private
        self._deadline = deadline
        for folder in ("sources", "lists/partial", "cache/archives/partial"):
            (private / folder).mkdir(parents=True)

    def update(self) -> str:
        """Fetches the lists of source packages; returns why if none could be had."""
        for name, text in _source_lists(*self._configured()):
            (self._private / "sources" / name).write_text(text, encoding="utf-8")
        result = self._run("apt-get", "update")
        if any((self._private / "lists").glob("*Sources*")):
            return ""
        return f"apt-get update: {last_error(result.errors)}"

    def known(self, names: Sequence[str]) -> list[str]:
        """Returns those of `names` that are source packages."""
        if not names:
            return []
        shown = self._run("apt-cache", "showsrc", "--only-source", *names).output
        found = set(re.findall(r"^Package: (\S+)", shown, re.MULTILINE))
        return [name for name in names if name in found]

    def file_sizes(self, names: Sequence[str]) -> dict[str, int]:
        """Returns the size in bytes of each archive of the source packages `names`."""
        listed = self._run("apt-get", "source", "--download-only", "-qq", "--print-uris", *names)
        return {file: int(size) for file, size in _URI.findall(listed.output)}

    def fetch(self, names: Sequence[str], directory: pathlib.Path) -> str:
        """Fetches source packages into `directory`; returns apt's messages."""
        source = ("apt-get", "source", "--download-only", "-qq")
        return self._run(*source, *names, directory=directory).errors

    def _configured(self) -> tuple[pathlib.Path, pathlib.Path]:
        options = ("shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d")
        output = run_client(["apt-config", *options], deadline=self._deadline).output
        found = dict(re.findall(r"^(\w+)='(.*)'$", output, re.MULTILINE))
        return (
            pathlib.Path(found.get("LIST", "/etc/apt/sources.list")),
            pathlib.Path(found.get("PARTS", "/etc/apt/sources.list.d")),
        )

    def _run(
        self, program: str, *arguments: str, directory: pathlib.Path | None = None
    ) -> CommandResult:
        options = {
            "Dir::Etc::SourceList": "/dev/null",
            "Dir::Etc::SourceParts": f"{self._private}/sources",
            "Dir::State::Lists": f"{self._private}/lists",
            "Dir::Cache": f"{self._private}/cache",
            "APT::Sandbox::User": "",  # its user cannot write to our folders
            "Acquire::Languages": "none",
            "Acquire::Retries": "0",
            "Acquire::http::Timeout": "10",
            "Acquire::https::Timeout": "10",
            "Debug::NoLocking": "1",
        }
        settings = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        command = [program, *settings, *arguments]
        return run_client(command, deadline=self._deadline, directory=directory)


def _source_lists(listed: pathlib.Path, parts: pathlib.Path) -> Iterator[tuple[str, str]]:
    """The machine's lists of package sources, turned to source packages: (file name, text)."""
    one_line = [listed, *sorted(parts.glob("*.list"))]
    lines = {
        line for path in one_line if path.is_file() for line in one_line_sources(path.read_text())
    }
    if lines:
        yield "ours.list", "\n".join(sorted(lines)) + "\n"
    for path in sorted(parts.glob("*.sources")):
        if text := deb822_sources(path.read_text()):
            yield path.name, text


def one_line_sources(text: str) -> list[str]:
    """Returns the entries of a sources.list as entries for source packages.

    "deb [arch=amd64] MIRROR stable main" -> "deb-src [arch=amd64] MIRROR stable main"
    """
    entries = (line.strip() for line in text.splitlines())
    kept = (e for e in entries if re.match(r"deb(-src)?\s", e) and "cdrom:" not in e)
    return [re.sub(r"^deb(-src)?\s", "deb-src ", entry) for entry in kept]


def deb822_sources(text: str) -> str:
    """Returns the enabled stanzas of a file of the deb822 format, asking for source packages."""
    stanzas = re.split(r"\n\s*\n", text.strip())
    kept = [s for s in stanzas if re.search(r"^Types:", s, re.MULTILINE) and not _ENABLED.search(s)]
    return "".join(
        re.sub(r"^Types:.*$", "Types: deb-src", stanza, flags=re.MULTILINE) + "\n\n"
        for stanza in kept
    )


def _result(package: Package, directory: pathlib.Path, reason: str) -> Fetched:
    archives = _archives(package.name, directory)
    if not archives:
        return Fetched(package=package, reason=reason or "its archive is missing")
    version = archives[0].name.removeprefix(f"{package.name}_").partition(".orig.tar")[0]
    return Fetched(
        package=package,
        version=re.sub(r"\.tar\.\w+$", "", version),
        archives=tuple(map(str, archives)),
    )


def _archives(name: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """The upstream archive and, where there is one, the one with debian/copyright."""
    files = sorted(p for p in folder.glob(f"{name}_*.tar.*") if not p.name.endswith(".asc"))
    debian = [file for file in files if ".debian.tar." in file.name]
    upstream = [file for file in files if ".orig.tar." in file.name]
    native = [
        file for file in files if ".debian.tar." not in file.name and ".orig" not in file.name
    ]
    main = upstream or native
    return [*main[:1], *debian[:1]] if main else []
