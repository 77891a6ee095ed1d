"""Extraction on all cores of one machine, ahead of the pipeline, which finds what is there.

Beam's own local runner in several processes waits for ever when one of them is killed, as the
kernel does where memory is short; a pool of processes says so.
"""

import concurrent.futures
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool

from codet5p_jax.corpus.extracted import extracted
from codet5p_jax.corpus.options import BuildOptions
from codet5p_jax.corpus.sources import Source


class LostProcessError(RuntimeError):
    """A process of the pool that something has ended."""


def extract_in_processes(
    sources: Sequence[Source],
    options: BuildOptions,
    *,
    num_workers: int,
    on_done: Callable[[], None] = lambda: None,
) -> None:
    """Extracts `sources`, the largest first, so that no process is left alone with one at the end.

    Args:
        sources: What to read.
        options: Of the build.
        num_workers: Processes.
        on_done: Called behind each source.

    Raises:
        LostProcessError: A process ended before its time; the others are stopped.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers, mp_context=context, initializer=_end_with_the_build
    )
    with pool:
        by_size = sorted(sources, key=_size, reverse=True)
        jobs = [pool.submit(extracted, source, options) for source in by_size]
        try:
            for job in concurrent.futures.as_completed(jobs):
                job.result()
                on_done()
        except BrokenProcessPool as error:
            raise LostProcessError(
                "A process that extracts sources was killed, as happens where memory is short. "
                f"Run the same command again, with fewer than --num_workers={num_workers}: what "
                "is extracted is kept."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _size(source: Source) -> int:
    """Returns the bytes of a source's files on disk."""
    places = (pathlib.Path(place) for place in source.places)
    files = (file for place in places for file in (place, *place.rglob("*")) if file.is_file())
    return sum(file.stat().st_size for file in files)


def _end_with_the_build() -> None:
    """Has a process end when the terminal interrupts all of them, and when the build is no more.

    A process of a pool outlives one that is killed, and writes where the next build reads.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    build = multiprocessing.parent_process()
    if build is not None:
        threading.Thread(target=_end_behind, args=[build], daemon=True).start()


def _end_behind(build: multiprocessing.process.BaseProcess) -> None:
    build.join()
    os._exit(1)
