"""Fetches the packages of a recipe with the ordinary clients of this machine.

Hosts, proxies and credentials are the clients' own business: none is named here. A client, package
or network that is missing is no error: it is told in the result.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from codet5p_jax.corpus.recipes import Package
from codet5p_jax.progress import progress

_NETWORK = re.compile(r"resolv|EAI_AGAIN|ECONN|ETIMEDOUT|unreachable|timed out", re.IGNORECASE)
_ADDRESS = re.compile(r"\w+://\S+|\[IP: [^]]*\]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fetched:
    """What became of one package.

    Attributes:
        package: The package that was asked for.
        version: The version that was fetched; empty if none was.
        archives: Paths of its archives; empty if it could not be fetched.
        reason: Why it could not be fetched; empty if it was.
    """

    package: Package
    version: str = ""
    archives: tuple[str, ...] = ()
    reason: str = ""


# (packages, directory, deadline in time.monotonic() seconds, called after each) -> results
Client = Callable[[Sequence[Package], pathlib.Path, float, Callable[[], None]], list[Fetched]]


@dataclasses.dataclass(frozen=True)
class CommandResult:
    """How a command of a client ended.

    Attributes:
        code: Its exit status; 124 when it ran out of time.
        output: What it wrote to standard output.
        errors: What it wrote to standard error.
    """

    code: int
    output: str
    errors: str


def fetch_packages(
    packages: Sequence[Package],
    directory: str | os.PathLike[str],
    *,
    clients: Mapping[str, Client],
    seconds: float = 240,
) -> list[Fetched]:
    """Fetches `packages` into `directory`, the ecosystems side by side.

    Args:
        packages: What to fetch.
        directory: Where the archives go, one folder for each ecosystem. Archives that lie there
            from an earlier run are used again.
        clients: The client of each ecosystem.
        seconds: Time after which what is left is given up and reported.

    Returns:
        One result for each package, in the order of `packages`.
    """
    deadline = time.monotonic() + seconds
    with (
        progress("fetching", len(packages), unit="packages") as shown,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        jobs = [
            pool.submit(
                client,
                [package for package in packages if package.ecosystem == ecosystem],
                pathlib.Path(directory, ecosystem),
                deadline,
                shown.advance,
            )
            for ecosystem, client in clients.items()
        ]
        fetched = {result.package: result for job in jobs for result in job.result()}
    return [fetched.get(p, Fetched(package=p, reason="no client fetches it")) for p in packages]


def incoming(directory: pathlib.Path) -> pathlib.Path:
    """Returns the folder, made if need be, into which a client writes what may yet be cut short.

    What has arrived whole is moved up into `directory`; a killed client leaves nothing there.
    """
    folder = directory / "incoming"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_client(
    command: Sequence[str], *, deadline: float, directory: str | os.PathLike[str] | None = None
) -> CommandResult:
    """Runs a command of a client until `deadline`, in `directory`, without a terminal.

    It never raises: a command that cannot be started ends with 127, one out of time with 124.
    """
    seconds = max(deadline - time.monotonic(), 0.1)
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, "LC_ALL": "C.UTF-8", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return CommandResult(124, "", f"{command[0]} ran out of time after {seconds:.0f} s")
    except OSError as error:
        return CommandResult(127, "", f"{command[0]} cannot be started: {error}")
    return CommandResult(done.returncode, done.stdout, done.stderr)


def last_error(errors: str) -> str:
    """Returns the line of a client's messages that says most, without addresses."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    network = [line for line in lines if _NETWORK.search(line)]
    telling = [line for line in lines if "err" in line.lower() or line.startswith("E:")]
    line = (network or telling or lines or ["no message"])[-1]
    return " ".join(_ADDRESS.sub("", line).split())[:160]


def fetch_one_by_one(
    packages: Sequence[Package],
    fetch_one: Callable[[Package], Fetched],
    *,
    deadline: float,
    on_done: Callable[[], None],
    workers: int = 4,
) -> list[Fetched]:
    """Calls `fetch_one` on each package, some side by side, until `deadline`."""

    def fetch_in_time(package: Package) -> Fetched:
        in_time = time.monotonic() < deadline
        late = Fetched(package=package, reason="not tried: the time for fetching was spent")
        result = fetch_one(package) if in_time else late
        on_done()
        return result

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(fetch_in_time, packages))
