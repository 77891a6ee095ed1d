"""Tests of codet5p_jax.cli.quiet."""

import os

import pytest

from codet5p_jax.cli.quiet import silenced_stderr


def test_what_libraries_write_is_shown_only_with_an_error(capfd):
    with silenced_stderr():
        os.write(2, b"noise")
    assert capfd.readouterr().err == ""
    with pytest.raises(OSError, match="broken"), silenced_stderr(told_by=(ValueError,)):
        os.write(2, b"the reason")
        raise OSError("broken")
    assert capfd.readouterr().err == "the reason"


def test_an_error_that_tells_all_comes_without_it(capfd):
    with pytest.raises(ValueError, match="refused"), silenced_stderr(told_by=(ValueError,)):
        os.write(2, b"noise")
        raise ValueError("refused")
    assert capfd.readouterr().err == ""
