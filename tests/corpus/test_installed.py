"""Tests of codet5p_jax.corpus.installed."""

from codet5p_jax.corpus.filters import Filters
from codet5p_jax.corpus.installed import installed_sources
from codet5p_jax.corpus.reading import read_source
from codet5p_jax.corpus.records import SourceFile


def test_the_standard_library_is_there_without_any_network():
    sources = {s.name: s for s in installed_sources(max_bytes=100_000, max_total=5_000_000)}
    assert sources["python-argparse"].license == "PSF-2.0"
    assert "python-test" not in sources
    files = read_source(sources["python-json"], filters=Filters(), allowed_licenses=("PSF-2.0",))
    assert any(isinstance(file, SourceFile) and file.path == "decoder.py" for file in files)


def test_permissive_installed_packages_follow():
    sources = {s.name: s for s in installed_sources(max_bytes=100_000, max_total=10**9)}
    assert sources["flax"].license == "Apache-2.0"
    assert all(s.places and s.version for s in sources.values())


def test_no_more_than_the_total_is_taken():
    few = installed_sources(max_bytes=50_000, max_total=200_000)
    more = installed_sources(max_bytes=50_000, max_total=400_000)
    assert 0 < len(few) < len(more)
    assert more[: len(few)] == few
