"""Sources of code: packages, archives and directories, each one repository, and files of rows.

A file of rows is part of a data set; each of its rows is a file or a function of some repository.
"""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterable, Sequence

from codet5p_jax.corpus import archives, rows
from codet5p_jax.corpus.fetch import Fetched
from codet5p_jax.corpus.field_maps import FieldMap, find_field_map
from codet5p_jax.corpus.languages import language_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where the files of one repository lie, or some of the rows of a data set.

    Attributes:
        name: Name of the repository, or of the file of rows.
        ecosystem: Where it comes from: apt, npm, pip, directory, archive, installed or rows.
        version: Its version; empty if unknown.
        places: Archives, directories or single files.
        split: Split of all its files; None: each file by a hash of its path, or of its repository
            if they are rows.
        license: SPDX expression for files whose licence it does not state.
        languages: What is read of it; nothing given means everything.
        max_bytes: Source text taken of it at most; None: all.
        rows: The columns of its rows; None: it is a repository.
    """

    name: str
    ecosystem: str
    version: str = ""
    places: tuple[str, ...]
    split: str | None = None
    license: str | None = None
    languages: tuple[str, ...] = ()
    max_bytes: int | None = None
    rows: FieldMap | None = None


@dataclasses.dataclass(frozen=True)
class Rejection:
    """Something that was left out, and why."""

    path: str
    reason: str


def source_of_package(fetched: Fetched, *, max_bytes: int) -> Source:
    """Returns the source of a package that was fetched; `max_bytes` where it sets none itself."""
    package = fetched.package
    return Source(
        name=package.name,
        ecosystem=package.ecosystem,
        version=fetched.version,
        places=fetched.archives,
        split=package.split,
        license=package.license,
        languages=package.languages,
        max_bytes=max_bytes if package.max_bytes is None else package.max_bytes,
    )


def with_unique_names(sources: Iterable[Source]) -> list[Source]:
    """Returns `sources`; of those that share a name, the second gets `-2` after it, and so on."""
    unique: dict[str, Source] = {}
    for source in sources:
        numbered = (f"{source.name}-{i}" for i in itertools.count(2))
        names = itertools.chain([source.name], numbered)
        name = next(name for name in names if name not in unique)
        unique[name] = dataclasses.replace(source, name=name)
    return list(unique.values())


def sources_of_path(
    path: str | os.PathLike[str], *, license: str | None = None, field_map: str | None = None
) -> list[Source]:
    """Returns the repositories at `path`, or the files of rows of a data set.

    A path is an archive, a checkout, or a directory of either. A directory that is no git checkout
    holds one repository in each of its folders and archives. Files of rows are told by their
    endings; a directory holds a data set if they outweigh its source code.

    Args:
        path: A path, or an address of a data set such as `hf://datasets/owner/name`.
        license: SPDX expression for files whose licence is not stated.
        field_map: The columns of a data set: one of `field_maps.NAMES`, or the path of a JSON
            file; None: told by the columns.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It is a data set whose columns fit no field map.
    """
    address = os.fspath(path)
    if rows.is_remote(address):
        found = rows.row_files(address)
        return _row_sources(found, address, license=license, field_map=field_map)
    place = pathlib.Path(path).resolve()
    if not place.exists():
        raise FileNotFoundError(f"The source {path} does not exist; give a directory or archive.")
    if field_map is not None or _is_data_set(place):
        found = rows.row_files(str(place))
        if not found:
            raise FileNotFoundError(
                f"The data set {path} holds no file that ends in {', '.join(rows.ROW_ENDINGS)}."
            )
        return _row_sources(found, str(place), license=license, field_map=field_map)
    if place.is_file() or (place / ".git").exists():
        return [_source_at(place, license=license)]
    inner = [p for p in sorted(place.iterdir()) if p.is_dir() or archives.is_archive(p)]
    inner = [p for p in inner if not p.name.startswith(".")]
    folder = len(inner) < 2 and not any(p.is_file() for p in inner)
    if folder or any(language_of(p.name) for p in place.iterdir()):
        return [_source_at(place, license=license)]
    return [_source_at(p, license=license) for p in inner]


def _source_at(place: pathlib.Path, *, license: str | None) -> Source:
    ecosystem = "directory" if place.is_dir() else "archive"
    name = archives.plain_text(place.name)
    return Source(name=name, ecosystem=ecosystem, places=(str(place),), license=license)


def _is_data_set(place: pathlib.Path) -> bool:
    if place.is_file():
        return bool(rows.row_files(str(place)))
    if (place / ".git").exists():
        return False
    of_rows = of_code = 0
    for member in archives.members(place):
        if rows.row_files(str(place / member.path)):
            of_rows += member.size
        elif language_of(member.path) or archives.is_archive(member.path):
            of_code += member.size
    return of_rows > of_code


def _row_sources(
    files: Sequence[str], root: str, *, license: str | None, field_map: str | None
) -> list[Source]:
    filled = ((file, has) for file in files if (has := rows.columns_of(file)))
    columns = find_field_map(*next(filled, (files[0], [])), field_map)
    data_set = root.rstrip("/").rpartition("/")[2].partition("@")[0]
    paths = [file.partition("::")[0] for file in files]
    # commonpath would make one slash of the three of an address.
    folder = os.path.commonprefix(paths).rpartition("/")[0] + "/"  # noqa: RUF071
    names = [path.removeprefix(folder) for path in paths]
    return [
        Source(
            name=name if name == data_set else f"{data_set}/{name}",
            ecosystem="rows",
            places=(file,),
            license=license,
            rows=columns,
        )
        for file, name in zip(files, names, strict=True)
    ]
