import subprocess
import sys

import pytest

from codet5p_jax.cli.huge_pages import (
    HUGE_PAGES,
    KERNEL_SETTING,
    TUNABLES,
    environment_with_huge_pages,
)


@pytest.fixture
def asking_kernel(tmp_path):
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    return path


def test_malloc_is_told_to_ask_a_kernel_that_grants_huge_pages_on_request(asking_kernel):
    environment = environment_with_huge_pages({"HOME": "/x"}, asking_kernel)
    assert environment == {"HOME": "/x", TUNABLES: HUGE_PAGES}


def test_other_tunables_are_kept(asking_kernel):
    environment = environment_with_huge_pages({TUNABLES: "glibc.malloc.check=1"}, asking_kernel)
    assert environment == {TUNABLES: f"glibc.malloc.check=1:{HUGE_PAGES}"}


@pytest.mark.parametrize("value", [HUGE_PAGES, "glibc.malloc.hugetlb=0"])
def test_a_process_that_was_told_already_is_not_restarted(asking_kernel, value):
    assert environment_with_huge_pages({TUNABLES: value}, asking_kernel) is None


@pytest.mark.parametrize("setting", ["[always] madvise never\n", "always madvise [never]\n"])
def test_a_kernel_that_asks_nobody_is_left_alone(tmp_path, setting):
    path = tmp_path / "enabled"
    path.write_text(setting)
    assert environment_with_huge_pages({}, path) is None
    assert environment_with_huge_pages({}, tmp_path / "missing") is None


def test_restarted_program_keeps_its_arguments_and_restarts_once():
    program = (
        "import os, sys; from codet5p_jax.cli import huge_pages as h; h.restart_with_huge_pages(); "
        "print(sys.argv[1:], os.environ.get(h.TUNABLES, ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "a b", "--c=d"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin"},
    )
    asks = KERNEL_SETTING.exists() and "[madvise]" in KERNEL_SETTING.read_text()
    assert done.stdout.strip() == f"['a b', '--c=d'] {HUGE_PAGES if asks else ''}".strip()
