"""Tests of codet5p_jax.corpus.extraction_pool: real processes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from codet5p_jax.corpus import extracted as module
from codet5p_jax.corpus.extracted import count_extracted, extracted
from codet5p_jax.corpus.extraction_pool import LostProcessError, extract_in_processes
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
    with pytest.raises(LostProcessError, match=r"was killed.*fewer than --num_workers=2"):
        extract_in_processes(sources, options, num_workers=2)


BUILD = """
import concurrent.futures, multiprocessing, os, time
from codet5p_jax.corpus.extraction_pool import _end_with_the_build
if __name__ == "__main__":
    pool = concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), _end_with_the_build
    )
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 60)
    time.sleep(60)
"""


@pytest.mark.parametrize("ends", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_a_build_that_was_killed(tmp_path, ends):
    (tmp_path / "build.py").write_text(BUILD)
    build = subprocess.Popen([sys.executable, tmp_path / "build.py"], stdout=subprocess.PIPE)
    build.stdout.readline()
    time.sleep(0.5)
    build.send_signal(ends)
    build.communicate(timeout=30)  # until the last process that holds its output has ended
    assert build.returncode == -ends
