"""The folder of a build: beside the place of its corpus until that is whole, and its alone."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Any

from etils import epath

from codet5p_jax.corpus import datasets
from codet5p_jax.corpus.manifest import read_manifest
from codet5p_jax.corpus.rows import is_remote

EVALUATION = "evaluation"  # its folder of what evaluation sets hold


def finished(out_dir: str | os.PathLike[str], digest: str) -> dict[str, Any] | None:
    """Returns the manifest of a whole corpus of the same build, or None if `out_dir` is free.

    Raises:
        FileExistsError: It holds another corpus, or something else.
    """
    place = epath.Path(out_dir)
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return None
    if not (place / "manifest.json").is_file():
        raise FileExistsError(f"{out_dir} holds something that is no corpus; give another --out.")
    manifest = read_manifest(place)
    if manifest["recipe_digest"] != digest:
        raise FileExistsError(
            f"{out_dir} holds another corpus: recipe {manifest['recipe']!r}, built "
            f"{manifest['created']}, from other sources or settings. Remove it or give another "
            "--out."
        )
    return manifest


def unfinished(out_dir: str | os.PathLike[str]) -> epath.Path:
    """Returns the folder, made if need be, of a build: beside its place, never read as a corpus."""
    place = _resolved(out_dir)
    partial = place.with_name(f"{place.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    return partial


@contextlib.contextmanager
def alone_in(partial: epath.Path) -> Iterator[epath.Path]:
    """Keeps other builds of this machine out of the folder of one, until it or its process ends.

    Raises:
        FileExistsError: Another one is at work there.
    """
    if is_remote(os.fspath(partial)):
        yield partial
        return
    folder = os.open(partial, os.O_RDONLY)
    try:
        _lock(folder, partial)
        yield partial
    finally:
        os.close(folder)


def _lock(folder: int, partial: epath.Path) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileExistsError(
            f"Another process builds a corpus in {partial} now: wait for it, or give another --out."
        ) from error


def keep_extracted(partial: epath.Path, digest: str) -> None:
    """Clears what an interrupted build left, but for the extracted sources of the same build."""
    asked = partial / "asked"
    same = asked.is_file() and asked.read_text(encoding="utf-8") == digest
    if not same:
        asked.unlink(missing_ok=True)  # first: what is left of a folder half cleared is nobody's
    for folder in (*datasets.FEATURES, *([] if same else ["extracted"])):
        (partial / folder).rmtree(missing_ok=True)
    asked.write_text(digest, encoding="utf-8")


def publish(partial: epath.Path, place: epath.Path) -> None:
    """Clears what only the build needed, and gives the folder its name."""
    (partial / "asked").unlink()  # first, as in `keep_extracted`
    for name in ("fetched", "extracted", "pairs", "duplicates", EVALUATION):
        (partial / name).rmtree(missing_ok=True)
    (partial / "summary.json").unlink()
    if place.is_dir():
        place.rmdir()  # it was empty
    partial.rename(_resolved(place))


def _resolved(place: str | os.PathLike[str]) -> epath.Path:
    """Returns a folder of this machine as an absolute path, an address as it is."""
    path = epath.Path(place)
    return path if is_remote(os.fspath(path)) else path.resolve()
