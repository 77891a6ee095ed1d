"""Builds a corpus: fetch -> pipeline -> metadata -> manifest, and only then it has its name."""

import dataclasses
import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from codet5p_jax.corpus import datasets
from codet5p_jax.corpus.apt_client import fetch_source_packages
from codet5p_jax.corpus.build_folder import (
    EVALUATION,
    alone_in,
    finished,
    keep_extracted,
    publish,
    unfinished,
)
from codet5p_jax.corpus.decontamination import decontaminate, write_evaluation_grams
from codet5p_jax.corpus.evaluation_sets import content_digest, name_of
from codet5p_jax.corpus.extracted import count_extracted
from codet5p_jax.corpus.fetch import Client, Fetched, fetch_packages
from codet5p_jax.corpus.filters import Filters
from codet5p_jax.corpus.installed import STANDARD_LIBRARY_LICENSE, installed_sources
from codet5p_jax.corpus.licenses import ANY, PERMISSIVE, UNKNOWN
from codet5p_jax.corpus.manifest import (
    SourceStatus,
    make_manifest,
    write_manifest,
)
from codet5p_jax.corpus.npm_client import fetch_npm_packages
from codet5p_jax.corpus.options import BuildOptions
from codet5p_jax.corpus.pip_client import fetch_wheels
from codet5p_jax.corpus.recipes import Recipe
from codet5p_jax.corpus.records import SPLITS
from codet5p_jax.corpus.sources import Source, source_of_package, with_unique_names
from codet5p_jax.corpus.splits import assign_splits
from codet5p_jax.progress import Progress, progress

FORMAT = 4  # of records and their order; raised when the same sources give other records
_MOST_SHARDS = 99_999  # their names have five digits
CLIENTS: Mapping[str, Client] = {
    "apt": fetch_source_packages,
    "npm": fetch_npm_packages,
    "pip": fetch_wheels,
}
_SUPPLEMENT = (
    "Only {fetched} of {asked} packages could be fetched: the Python standard library and the "
    "packages installed on this machine were added."
)
_BY_FILE = "Fewer than three repositories: files were split one by one, by a hash of their paths."


def build_from_recipe(
    recipe: Recipe,
    out_dir: str | os.PathLike[str],
    *,
    clients: Mapping[str, Client] = CLIENTS,
    archives_dir: str | os.PathLike[str] | None = None,
    excluded: Sequence[str] = (),
    evaluation_sets: Sequence[str | os.PathLike[str]] = (),
    pipeline_args: Sequence[str] = (),
    num_workers: int = 1,
    num_shards: int = 8,
) -> dict[str, Any]:
    """Builds the corpus of `recipe` in `out_dir` and returns its manifest.

    A corpus of the same recipe that is there already is kept. Archives that an interrupted build
    has fetched are used again. With less than half of the packages, or none for a whole split,
    what is installed on this machine is added.

    Args:
        recipe: What to fetch.
        out_dir: Where the corpus goes.
        clients: What fetches the packages of each ecosystem.
        archives_dir: Where fetched archives are found and kept; None: until the build has ended.
        excluded: Names of repositories of evaluation sets, which are left out.
        evaluation_sets: Files and folders of evaluation sets, whose text and repositories are left
            out; see the module `evaluation_sets`.
        pipeline_args: Options of Apache Beam.
        num_workers: Processes that extract sources on this machine; 1 leaves it to the pipeline.
        num_shards: Files of records in each split.

    Raises:
        FileExistsError: `out_dir` holds another corpus, or something else, or is being built.
        ValueError: `num_shards` is less than one.
    """
    _expect_shards(num_shards)
    asked = {
        "recipe": recipe.to_dict(),
        "excluded": sorted(excluded),
        "evaluation_sets": content_digest(evaluation_sets),
        "shards": num_shards,
    }
    digest = _digest(asked)
    if (ready := finished(out_dir, digest)) is not None:
        return ready
    with alone_in(unfinished(out_dir)) as partial:
        excluded = _register(evaluation_sets, excluded, partial)
        archives = partial / "fetched" if archives_dir is None else archives_dir
        fetched = fetch_packages(recipe.packages, archives, clients=clients)
        missing = [result for result in fetched if result.reason]
        sources = [
            source_of_package(f, max_bytes=recipe.max_bytes) for f in fetched if not f.reason
        ]
        notes, licenses = _notes_on_missing(missing), recipe.licenses
        if _is_too_little(sources, recipe):
            note = _SUPPLEMENT.format(fetched=len(sources), asked=len(recipe.packages))
            notes, licenses = [note, *notes], (*licenses, STANDARD_LIBRARY_LICENSE)
            sources += installed_sources(max_bytes=recipe.max_bytes)
        return _build(
            sources,
            out_dir,
            name=recipe.name,
            digest=digest,
            missing=missing,
            excluded=excluded,
            evaluation_sets=evaluation_sets,
            notes=notes,
            licenses=licenses,
            pipeline_args=pipeline_args,
            num_workers=num_workers,
            num_shards=num_shards,
        )


def build_from_sources(
    sources: Sequence[Source],
    out_dir: str | os.PathLike[str],
    *,
    licenses: Sequence[str] = PERMISSIVE,
    excluded: Sequence[str] = (),
    evaluation_sets: Sequence[str | os.PathLike[str]] = (),
    pipeline_args: Sequence[str] = (),
    num_workers: int = 1,
    num_shards: int = 8,
) -> dict[str, Any]:
    """Builds a corpus of `sources` in `out_dir` and returns its manifest.

    A corpus of the same sources that is there already is kept.

    Args:
        sources: What to read.
        out_dir: Where the corpus goes.
        licenses: SPDX names of the licences that a file may have; see `licenses.parse_allowed`.
        excluded: As in `build_from_recipe`, like the following.
        evaluation_sets: Files and folders of evaluation sets.
        pipeline_args: Options of Apache Beam.
        num_workers: Processes that extract sources on this machine.
        num_shards: Files of records in each split.

    Raises:
        FileExistsError: `out_dir` holds another corpus, or something else, or is being built.
        ValueError: There is no source, or one whose licences nothing states; `num_shards` is less
            than one.
    """
    _expect_shards(num_shards)
    if not sources:
        raise ValueError("No sources to build a corpus of: give --recipe or --source.")
    _expect_stated_licenses(sources, licenses)
    asked = {
        "sources": [dataclasses.asdict(source) for source in sources],
        "licenses": list(licenses),
        "excluded": sorted(excluded),
        "evaluation_sets": content_digest(evaluation_sets),
        "shards": num_shards,
    }
    digest = _digest(asked)
    if (ready := finished(out_dir, digest)) is not None:
        return ready
    with alone_in(unfinished(out_dir)) as partial:
        excluded = _register(evaluation_sets, excluded, partial)
        return _build(
            sources,
            out_dir,
            name="sources",
            digest=digest,
            missing=[],
            excluded=excluded,
            evaluation_sets=evaluation_sets,
            notes=[],
            licenses=licenses,
            pipeline_args=pipeline_args,
            num_workers=num_workers,
            num_shards=num_shards,
        )


def _build(
    sources: Sequence[Source],
    out_dir: str | os.PathLike[str],
    *,
    name: str,
    digest: str,
    missing: Sequence[Fetched],
    excluded: Sequence[str],
    evaluation_sets: Sequence[str | os.PathLike[str]],
    notes: Sequence[str],
    licenses: Sequence[str],
    pipeline_args: Sequence[str],
    num_workers: int,
    num_shards: int,
) -> dict[str, Any]:
    from codet5p_jax.corpus import pipeline  # Beam takes three seconds to import

    partial = unfinished(out_dir)
    # Of a recipe the licences depend on what could be fetched.
    keep_extracted(partial, _digest({"build": digest, "licenses": list(licenses)}))
    kept, dropped = decontaminate(with_unique_names(sources), excluded)
    placed = assign_splits(kept)
    evaluation = partial / EVALUATION
    options = BuildOptions(
        out_dir=str(partial),
        filters=Filters(),
        licenses=tuple(licenses),
        num_shards=num_shards,
        evaluation_dir=str(evaluation) if evaluation.is_dir() else None,
    )
    _run(placed, options, pipeline_args=pipeline_args, num_workers=num_workers)
    counts, shards = pipeline.read_summary(str(partial))
    datasets.write_metadata(partial, shards)
    by_file = [_BY_FILE] if any(_split_name(s) == "by file" for s in placed) else []
    manifest = make_manifest(
        recipe=name,
        recipe_digest=digest,
        counts=counts,
        shards=shards,
        sources=[
            *(_status(source, "used") for source in placed),
            *(_status(source, "dropped", "it is in an evaluation set") for source in dropped),
            *map(_missing, missing),
        ],
        notes=[*notes, *by_file],
        evaluation_sets=[*map(name_of, evaluation_sets)],
    )
    write_manifest(partial, manifest)
    publish(partial, epath.Path(out_dir))
    return manifest


def _register(
    evaluation_sets: Sequence[str | os.PathLike[str]],
    excluded: Sequence[str],
    partial: epath.Path,
) -> list[str]:
    """Writes what is in evaluation sets to the folder of a build; returns their repositories."""
    folder = partial / EVALUATION
    folder.rmtree(missing_ok=True)
    if not evaluation_sets and not excluded:
        return []
    return write_evaluation_grams(evaluation_sets, folder, repositories=excluded)


def _expect_shards(number: int) -> None:
    if not 1 <= number <= _MOST_SHARDS:
        raise ValueError(
            f"--num_shards is {number}: give 1 to {_MOST_SHARDS:,}, the files of records in each "
            "split."
        )


def _expect_stated_licenses(sources: Sequence[Source], licenses: Sequence[str]) -> None:
    """A data set without licences would be read for hours, and nothing of it kept."""
    for source in sources:
        states = source.rows is None or source.rows.license or source.license
        if not states and not {ANY, UNKNOWN} & set(licenses):
            raise ValueError(
                f"{source.name} has no column of licences, so nothing of it would be kept. Give "
                "--license=NAME if one holds for all of it, or --licenses=any to take it whatever "
                "its licences are."
            )


def _is_too_little(sources: Sequence[Source], recipe: Recipe) -> bool:
    wanted = {package.split for package in recipe.packages}
    return 2 * len(sources) < len(recipe.packages) or not wanted <= {s.split for s in sources}


def _notes_on_missing(missing: Sequence[Fetched]) -> list[str]:
    by_ecosystem: dict[str, list[Fetched]] = {}
    for fetched in missing:
        by_ecosystem.setdefault(fetched.package.ecosystem, []).append(fetched)
    return [
        f"{ecosystem}: {len(own)} packages are missing; {own[0].package.name}: {own[0].reason}."
        for ecosystem, own in by_ecosystem.items()
    ]


def _run(
    sources: Sequence[Source],
    options: BuildOptions,
    *,
    pipeline_args: Sequence[str],
    num_workers: int,
) -> None:
    """Extracts the sources and runs the pipeline, while showing how many were read."""
    from codet5p_jax.corpus import extraction_pool, pipeline

    run = functools.partial(pipeline.run, sources, options, pipeline_args)
    num_workers = min(num_workers, len(sources))
    with progress("extracting", len(sources), unit="sources") as shown:
        if num_workers > 1:
            extraction_pool.extract_in_processes(
                sources, options, num_workers=num_workers, on_done=shown.advance
            )
        else:
            _show_while(run, shown, count=lambda: count_extracted(options))
    if num_workers > 1:
        files = len(datasets.FEATURES) * len(SPLITS) * options.num_shards
        with progress("writing", files, unit="files") as shown:
            _show_while(run, shown, count=lambda: datasets.count_files(options.out_dir))


def _show_while(run: Callable[[], None], shown: Progress, *, count: Callable[[], int]) -> None:
    """Runs `run` in a thread and shows what `count` tells of it meanwhile."""
    failures: list[BaseException] = []

    def catch() -> None:
        try:
            run()
        except BaseException as error:
            failures.append(error)

    # A daemon: an interrupt ends the process at once, the pipeline with it.
    job = threading.Thread(target=catch, daemon=True)
    job.start()
    seen = 0
    while True:
        finished = not job.is_alive()
        done = count()
        shown.advance(done - seen)
        seen = done
        if finished:
            break
        job.join(timeout=0.2)
    if failures:
        raise failures[0]


def _status(source: Source, status: str, reason: str = "") -> SourceStatus:
    return SourceStatus(
        name=source.name,
        ecosystem=source.ecosystem,
        version=source.version,
        split=_split_name(source),
        status=status,
        reason=reason,
    )


def _split_name(source: Source) -> str:
    return source.split or ("by file" if source.rows is None else "by repository")


def _missing(fetched: Fetched) -> SourceStatus:
    return SourceStatus(
        name=fetched.package.name,
        ecosystem=fetched.package.ecosystem,
        version=fetched.package.version or "",
        split=fetched.package.split or "",
        status="missing",
        reason=fetched.reason,
    )


def _digest(asked: Mapping[str, Any]) -> str:
    text = json.dumps({**asked, "format": FORMAT}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
