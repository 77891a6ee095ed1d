import argparse
import os
import shlex
import subprocess

import pytest

from codet5p_jax.cli import train_flags
from codet5p_jax.cli.main import as_bindings
from tests.launch.conftest import ROOT

WORDS = [
    *("--cluster=pods", "--name=night", "--tpu-type=v5litepod-16", "--image=r/codet5p:tpu"),
    *("--recipe=stage1_220m", "--model-dir=/data/it's a run", "--corpus-dir=/data/corpus"),
    "--tokenizer-dir=/data/tokenizer",
]
TRAIN = [
    *(
        "/opt/codet5p_jax/.venv/bin/codet5p",
        "train",
        "--multihost",
        "--gin_file=recipes/stage1_220m.gin",
    ),
    *("--gin.MODEL_DIR=/data/it's a run", "--gin.CORPUS_DIR=/data/corpus"),
    *("--gin.TOKENIZER_DIR=/data/tokenizer", '--gin.NOTE=a "b"'),
]


def run(*more, path=None):
    return subprocess.run(
        [ROOT / "launch" / "xpk.sh", *WORDS, *more],
        env={**os.environ, "PATH": path or os.environ["PATH"]},
        capture_output=True,
        text=True,
    )


def test_dry_run_prints_the_command_quoted():
    done = run("--dry-run", "--zone=z", "--spot", "--", '--gin.NOTE=a "b"')
    assert done.returncode == 0, done.stderr
    *words, command = shlex.split(done.stdout)
    flags = words.pop()
    assert words == [
        *("xpk", "workload", "create", "--cluster=pods", "--workload=night"),
        *("--tpu-type=v5litepod-16", "--num-slices=1", "--docker-image=r/codet5p:tpu"),
        *("--priority=medium", "--max-restarts=20", "--termination-grace-period-seconds=300"),
        *("--zone=z", "--spot", "--env"),
    ]
    assert flags.startswith("LIBTPU_INIT_ARGS=--xla_tpu_enable_async_collective_fusion=true ")
    assert shlex.split(command.removeprefix("--command=")) == TRAIN


def test_the_command_is_one_that_codet5p_takes():
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    train_flags.add_arguments(parser)
    parsed = parser.parse_args(as_bindings(TRAIN[2:]))
    assert parsed.multihost
    assert parsed.gin_file == ["recipes/stage1_220m.gin"]
    assert "MODEL_DIR=/data/it's a run" in parsed.gin_bindings


def test_two_tiers_exclude_each_other():
    done = run("--spot", "--on-demand", "--dry-run")
    assert done.returncode == 2
    assert "--spot --on-demand exclude each other; give one" in done.stderr


def test_xpk_gets_the_very_words(tmp_path):
    xpk = tmp_path / "xpk"
    xpk.write_text(f"#!/bin/bash\nprintf '%s\\0' \"$@\" > {tmp_path}/words\nexit 9\n")
    xpk.chmod(0o755)
    done = run("--no-libtpu-args", "--", '--gin.NOTE=a "b"', path=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 9  # xpk's own
    words = (tmp_path / "words").read_text().split("\0")[:-1]
    assert words[:3] == ["workload", "create", "--cluster=pods"]
    assert "--env" not in words
    assert shlex.split(words[-1].removeprefix("--command=")) == TRAIN


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--tpu-type=h100-8", "--tpu-type h100-8 is of no known generation"),
        ("--priorty=high", "Did you mean --priority?"),
        ("--name=My run", "--name must be of small letters, digits and -"),
        ("--num-slices=0", "--num-slices must be a whole number, 1 or more, got '0'"),
        ("--tokenizer-dir=tokenizer", "--tokenizer-dir is tokenizer, which on a worker lies in"),
        ("--max-restarts=-1", "--max-restarts must be a whole number, got '-1'"),
    ],
)
def test_wrong_arguments_name_the_way_out(flag, message):
    done = run(flag)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_missing_xpk_is_named(tmp_path):
    done = run(path="/usr/bin:/bin")
    assert done.returncode == 5
    assert "xpk is not installed: pip install xpk" in done.stderr
