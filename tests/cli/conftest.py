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


_PYTHON = '''def area_{i}(radius):
    """Returns the [red]area[/red] of circle number {i}."""
    pi = {i} + 3.14159
    square = radius * radius
    return pi * square if radius > 0 else {i}


'''
_PHP = """<?php

/**
 * Adds {i} to what it is given.
 */
function plus_{i}($number)
{{
    $sum = $number + {i};
    return $sum > 0 ? $sum : {i};
}}
"""


@pytest.fixture(scope="session")
def built_corpus(tmp_path_factory):
    """A corpus of three repositories: Python in all of them, PHP in training alone."""
    from codet5p_jax.corpus.build import build_from_sources
    from codet5p_jax.corpus.sources import sources_of_path

    root = tmp_path_factory.mktemp("built_corpus")
    for number, name in enumerate(("one", "two", "three", "four")):
        folder = root / "sources" / name
        folder.mkdir(parents=True)
        numbers = range(10 * number, 10 * number + 6)
        (folder / f"{name}.py").write_text("".join(_PYTHON.format(i=i) for i in numbers))
        if name == "one":
            for i in numbers:
                (folder / f"plus_{i}.php").write_text(_PHP.format(i=i))
    sources = sources_of_path(str(root / "sources"), license="MIT")
    build_from_sources(sources, str(root / "corpus"), num_shards=2)
    return root / "corpus"
