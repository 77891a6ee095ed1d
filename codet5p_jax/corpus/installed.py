"""What a machine has without any network: Python's standard library and installed packages."""

import importlib.metadata
import pathlib
import sysconfig
from collections.abc import Iterator

from codet5p_jax.corpus.licenses import PERMISSIVE, is_allowed, license_of_wheel
from codet5p_jax.corpus.sources import Source

STANDARD_LIBRARY_LICENSE = "PSF-2.0"
_SKIPPED = frozenset(
    {"site-packages", "dist-packages", "test", "idlelib", "lib2to3", "turtledemo", "__pycache__"}
)


def installed_sources(*, max_bytes: int, max_total: int = 30_000_000) -> list[Source]:
    """Returns the modules of the standard library and the installed packages as sources.

    Args:
        max_bytes: Source text taken of one of them at most.
        max_total: Source text taken of all at most, by the sizes of their files; the standard
            library comes first, then packages by name.
    """
    sources, total = [], 0
    for source in [*_standard_library(max_bytes), *_packages(max_bytes)]:
        total += min(max_bytes, sum(map(_python_bytes, source.places)))
        if total > max_total:
            break
        sources.append(source)
    return sources


def _standard_library(max_bytes: int) -> Iterator[Source]:
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    for place in sorted(root.iterdir()):
        package = (place / "__init__.py").is_file()
        if place.name not in _SKIPPED and (package or place.suffix == ".py"):
            yield Source(
                name=f"python-{place.stem}",
                ecosystem="installed",
                version=sysconfig.get_python_version(),
                places=(str(place),),
                license=STANDARD_LIBRARY_LICENSE,
                max_bytes=max_bytes,
            )


def _packages(max_bytes: int) -> Iterator[Source]:
    found = {d.metadata["Name"]: d for d in importlib.metadata.distributions()}
    for name, distribution in sorted(found.items()):
        license = license_of_wheel(distribution.read_text("METADATA") or "")
        places = _top_level(distribution) if is_allowed(license, PERMISSIVE) else ()
        if places:
            yield Source(
                name=name,
                ecosystem="installed",
                version=distribution.version,
                places=places,
                license=license,
                max_bytes=max_bytes,
            )


def _top_level(distribution: importlib.metadata.Distribution) -> tuple[str, ...]:
    tops = {path.parts[0] for path in distribution.files or () if path.parts}
    wanted = sorted(top for top in tops if top.isidentifier() or top.endswith(".py"))
    places = (pathlib.Path(str(distribution.locate_file(top))) for top in wanted)
    return tuple(str(place) for place in places if place.exists())


def _python_bytes(place: str) -> int:
    path = pathlib.Path(place)
    files = path.rglob("*.py") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
