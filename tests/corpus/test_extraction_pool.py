"""Tests of codet5p_jax.corpus.extraction_pool: real processes."""

import os

import pytest

from codet5p_jax.corpus import extracted as module
from codet5p_jax.corpus.extracted import count_extracted, extracted
from codet5p_jax.corpus.extraction_pool import extract_in_processes
from codet5p_jax.corpus.filters import Filters
from codet5p_jax.corpus.options import BuildOptions
from codet5p_jax.corpus.sources import sources_of_path
from codet5p_jax.corpus.splits import assign_splits


def _options(out, filters):
    return BuildOptions(out_dir=str(out), filters=filters, licenses=("MIT",), num_shards=2)


@pytest.fixture
def sources(repositories):
    return assign_splits(sources_of_path(repositories))


def ends_its_process(path):
    """A filter of paths that the kernel might be."""
    if path.startswith("c."):
        os._exit(9)


def test_the_pipeline_finds_what_the_processes_extracted(sources, tmp_path, monkeypatch):
    extract_in_processes(sources, _options(tmp_path, Filters()), num_workers=2)
    assert count_extracted(_options(tmp_path, Filters())) == len(sources) == 4
    monkeypatch.setattr(module, "extract_source", None)
    for source in sources:
        assert len(extracted(source, _options(tmp_path, Filters())).chunks) == 2


def test_a_process_that_was_killed_is_an_error_that_says_to_run_again(sources, tmp_path):
    options = _options(tmp_path, Filters(paths=(ends_its_process,)))
    with pytest.raises(RuntimeError, match=r"was killed.*fewer than --num_workers=2"):
        extract_in_processes(sources, options, num_workers=2)
