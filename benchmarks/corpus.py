"""Benchmark: `codet5p corpus build` of a recipe, and of a half and a quarter of its sources.

``python -m benchmarks.corpus`` fetches the archives once, untimed, and keeps them; each build is a
process of its own. Memory is what the build and its workers hold together at the worst moment.
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.paired import RESULTS
from codet5p_jax.corpus.build import CLIENTS
from codet5p_jax.corpus.fetch import fetch_packages
from codet5p_jax.corpus.recipes import Recipe, load_recipe

SHARES = (0.25, 0.5, 1.0)
SECONDS_OF_FETCHING = 900
LIMITS = {"seconds": 180, "peak_bytes": 4 * 10**9}  # of the whole recipe, on two cores
WORK = pathlib.Path("runs/bench_corpus")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Build:
    """What a build took and gave.

    Attributes:
        share: Of the archives' bytes.
        archive_bytes: Size of the archives.
        seconds: Wall time of the command, imports included.
        cpu_seconds: Processor time of all its processes.
        peak_bytes: Most resident memory of all its processes together.
        files: Records of `code_files`.
        functions: Records of `code_functions`.
        pairs: Those with documentation.
        pairs_of_languages: The same by language.
        fingerprint: Of the corpus.
    """

    share: float
    archive_bytes: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    files: int
    functions: int
    pairs: int
    pairs_of_languages: dict[str, int]
    fingerprint: str


def parts(recipe: Recipe, archives: pathlib.Path) -> Iterator[tuple[float, int, Recipe]]:
    """Yields (share, bytes of archives, recipe of these) with every n-th package by size."""
    fetched = fetch_packages(
        recipe.packages, archives, clients=CLIENTS, seconds=SECONDS_OF_FETCHING
    )
    sizes = {f.package: sum(os.path.getsize(path) for path in f.archives) for f in fetched}
    by_size = sorted((p for p in recipe.packages if sizes[p]), key=lambda p: -sizes[p])
    for share in SHARES:
        taken = by_size[:: round(1 / share)]
        size = sum(sizes[package] for package in taken)
        yield share, size, dataclasses.replace(recipe, packages=tuple(taken))


def build(share: float, archive_bytes: int, recipe: Recipe, directory: pathlib.Path) -> Build:
    """Returns what the build of a part of a recipe took."""
    out, file = directory / "corpus", directory / "part.json"
    for folder in (out, out.with_name("corpus.partial")):
        shutil.rmtree(folder, ignore_errors=True)
    file.write_text(json.dumps(recipe.to_dict()), encoding="utf-8")
    command = [sys.executable, "-m", "codet5p_jax.cli.main", "corpus", "build", f"--recipe={file}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    words = [*command, f"--archives={directory / 'archives'}", f"--out={out}"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(0.2)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    languages = manifest["languages"].items()
    pairs = {name: sum(s["pairs"] for s in splits.values()) for name, splits in languages}
    kinds = {
        kind: sum(split[kind] for split in manifest["splits"].values())
        for kind in ("code_files", "code_functions")
    }
    return Build(
        share=share,
        archive_bytes=archive_bytes,
        seconds=seconds,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak_bytes=peak,
        files=kinds["code_files"],
        functions=kinds["code_functions"],
        pairs=sum(pairs.values()),
        pairs_of_languages=pairs,
        fingerprint=manifest["fingerprint"],
    )


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process and all that it started, in bytes."""
    total = 0
    for process in [pid, *descendants(pid)]:
        try:
            pages = pathlib.Path(f"/proc/{process}/statm").read_text().split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        total += int(pages) * os.sysconf("SC_PAGE_SIZE")
    return total


def descendants(pid: int) -> Iterator[int]:
    """Yields the processes that a process started, and those that they did."""
    for thread in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in thread.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield child
            yield from descendants(child)


def show(builds: Sequence[Build]) -> None:
    """Prints a table of builds."""
    table = Table(title="corpus build", title_justify="left")
    columns = (
        "archives",
        "wall",
        "CPU",
        "memory",
        "files",
        "functions",
        "pairs",
        "functions per CPU second",
    )
    for name in columns:
        table.add_column(name, justify="right")
    for one in builds:
        table.add_row(
            f"{one.archive_bytes / 1e6:.0f} MB",
            f"{one.seconds:.0f} s",
            f"{one.cpu_seconds:.0f} s",
            f"{one.peak_bytes / 1e9:.2f} GB",
            f"{one.files:,}",
            f"{one.functions:,}",
            f"{one.pairs:,}",
            f"{one.functions / one.cpu_seconds:,.0f}",
        )
    Console().print(table)


def main(words: Sequence[str] | None = None) -> int:
    """Builds the parts of a recipe and keeps the figures; 1 when the whole is over a limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="open_source", help="what to build")
    arguments = parser.parse_args(words)
    WORK.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe(arguments.recipe)
    builds = [build(*part, WORK) for part in parts(recipe, WORK / "archives")]
    show(builds)
    values = {
        "recipe": recipe.name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load": os.getloadavg()[0],
        "builds": [dataclasses.asdict(one) for one in builds],
    }
    path = RESULTS / "corpus.json"
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return int(any(getattr(builds[-1], name) > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
