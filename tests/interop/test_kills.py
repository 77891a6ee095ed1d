"""An export or an import that is killed leaves what was there before, or all of what it writes."""

import pathlib
import subprocess
import sys

import pytest

from codet5p_jax.interop.huggingface import export_model

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path, config, random_params, tokenizer):
    """Runs a program of `killing` beside two exports; returns how often it was killed."""
    for seed, name in enumerate(("first", "second")):
        export_model(
            random_params(config, seed=seed),
            config,
            tokenizer=tokenizer,
            out_dir=tmp_path / name,
            format="bimodal",
        )
    (tmp_path / "place").mkdir()

    def program(what, *, stride):
        words = [sys.executable, "-m", "tests.interop.killing", what]
        words += [str(tmp_path / "place"), str(stride)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return int(done.stdout.split()[-1])

    return program


@pytest.mark.parametrize("what", ["export", "export_again"])
def test_an_export_that_is_killed_leaves_nothing_half_written(run, what):
    assert run(what, stride=11) > 5


@pytest.mark.slow
@pytest.mark.parametrize("what", ["export", "export_again"])
def test_an_export_that_is_killed_at_any_step_leaves_nothing_half_written(run, what):
    assert run(what, stride=1) > 100


@pytest.mark.slow
def test_an_import_that_is_killed_leaves_nothing_half_written(run):
    assert run("import", stride=3) > 10
