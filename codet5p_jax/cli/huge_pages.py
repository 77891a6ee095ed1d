"""Huge pages for XLA's temporaries on a CPU: glibc must be asked before the process starts.

XLA on CPU allocates what a step needs anew in every step. In pages of 4 KiB the page faults took an
eighth of the train_step benchmark; in pages of 2 MiB they take a thirtieth.
"""

import os
import pathlib
import sys
from collections.abc import Mapping

TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb=1"  # malloc asks the kernel for huge pages (glibc 2.35)
KERNEL_SETTING = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_huge_pages() -> None:
    """Starts this program anew with huge pages, unless that is done or would change nothing."""
    environment = environment_with_huge_pages(os.environ, KERNEL_SETTING)
    if environment is not None:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def environment_with_huge_pages(
    environment: Mapping[str, str], kernel_setting: pathlib.Path
) -> dict[str, str] | None:
    """Returns the environment to start anew with; None: this process has what it can have.

    Args:
        environment: Of this process. Who sets malloc.hugetlb there, to 0 too, is left alone.
        kernel_setting: File in which the kernel marks its choice, `[madvise]` if it asks programs.
    """
    tunables = environment.get(TUNABLES, "")
    if "malloc.hugetlb" in tunables or not kernel_setting.exists():
        return None
    if "[madvise]" not in kernel_setting.read_text():  # always or never, whatever we ask for
        return None
    return {**environment, TUNABLES: ":".join(filter(None, [tunables, HUGE_PAGES]))}
