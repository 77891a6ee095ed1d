"""Tests of codet5p_jax.cli.corpus."""

import subprocess
import sys

import pytest

from codet5p_jax.cli.main import main

CODE = '''def area_{i}(radius):
    """Returns the area of circle number {i}."""
    pi = {i} + 3.14159
    square = radius * radius
    return pi * square if radius > 0 else {i}


'''


def _run(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["corpus", *map(str, arguments)])
    return stopped.value.code


@pytest.fixture
def sources(tmp_path):
    for number, name in enumerate(("one", "two", "three")):
        folder = tmp_path / "sources" / name
        folder.mkdir(parents=True)
        text = "".join(CODE.format(i=10 * number + i) for i in range(4))
        (folder / f"{name}.py").write_text(text)
    return tmp_path / "sources"


def test_a_corpus_is_built_and_shown(sources, tmp_path, capsys):
    out = tmp_path / "corpus"
    assert _run("build", f"--source={sources}", "--license=MIT", f"--out={out}") == 0
    assert f"The corpus is in {out}" in capsys.readouterr().out
    assert _run("show", out, "--verify") == 0
    assert "15 records read, all whole." in capsys.readouterr().out


def test_options_of_beam_pass_through(sources, tmp_path, capsys):
    arguments = ["build", f"--source={sources}", "--license=MIT", f"--out={tmp_path / 'c'}"]
    assert _run(*arguments, "--runner=NoSuchRunner") == 2
    assert "NoSuchRunner" in capsys.readouterr().err
    assert _run(*arguments, "--", "--runner=NoSuchRunner") == 2
    assert "NoSuchRunner" in capsys.readouterr().err


def test_a_mistake_is_one_line_that_says_what_to_do(tmp_path, capsys):
    assert _run("build", f"--out={tmp_path / 'c'}") == 2
    assert "Give either --recipe=NAME or --source=PATH" in capsys.readouterr().err
    assert _run("build", "--recipe=quikstart", f"--out={tmp_path / 'c'}") == 2
    assert "Did you mean 'quickstart'" in capsys.readouterr().err
    assert _run("show", tmp_path) == 2
    assert "codet5p corpus build" in capsys.readouterr().err


def test_help_imports_neither_tensorflow_nor_beam_nor_jax():
    code = (
        "import sys; from codet5p_jax.cli.main import main\n"
        "try: main(['corpus', 'build', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'tensorflow', 'apache_beam', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_building_imports_neither_tensorflow_nor_jax():
    code = (
        "import sys, codet5p_jax.corpus.build, codet5p_jax.corpus.pipeline\n"
        "assert not {'tensorflow', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
