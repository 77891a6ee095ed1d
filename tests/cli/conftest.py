"""A command line to call, and a MODEL_DIR with a tiny untrained model to call it on."""

import pytest

from tests.tiny_checkpoint import model_dir  # noqa: F401


@pytest.fixture
def codet5p(capsys):
    """Returns a function that runs a command line: (exit code, standard output, error)."""
    from codet5p_jax.cli import main

    def run(*words):
        with pytest.raises(SystemExit) as stopped:
            main.main([str(word) for word in words])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run
