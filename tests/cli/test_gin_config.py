"""Tests of codet5p_jax.cli.gin_config and main: what a user can get wrong on a command line."""

import subprocess
import sys

import pytest

from codet5p_jax.cli import gin_config
from codet5p_jax.cli.main import main
from codet5p_jax.cli.train import train

RECIPE = "recipes/quickstart_stage1.gin"
FOLDERS = ["MODEL_DIR=/tmp/m", "CORPUS_DIR=/tmp/c", "TOKENIZER_DIR=/tmp/t"]


def _bind(*bindings, files=(RECIPE,)):
    return gin_config.bind(train, gin_files=files, bindings=[*FOLDERS, *bindings])


def test_a_recipe_binds_and_a_binding_wins_over_it():
    _bind("DENOISING_STEPS=7", "MODEL_DIR=runs/my run")
    text = gin_config.config_text()
    assert "DENOISING_STEPS = 7" in text
    assert "MODEL_DIR = 'runs/my run'" in text


def test_a_schedule_and_an_optimizer_are_chosen_by_a_binding_and_a_file():
    _bind("SCHEDULE=@schedules.cosine()", files=(RECIPE, "optimizers/adafactor.gin"))
    text = gin_config.config_text()
    assert "SCHEDULE = @schedules.cosine()" in text
    assert "OPTIMIZER = @optimizer.adafactor" in text


@pytest.mark.parametrize(
    "bindings, files, message",
    [
        (["DENOISNG_STEPS=7"], [RECIPE], r"defines 'DENOISNG_STEPS'. Did you mean DENOISING_STEPS"),
        (
            ["optimizer.adamw.wieght_decay=1"],
            [RECIPE],
            r"'wieght_decay'. Did you mean weight_decay",
        ),
        (["optimiser.adamw.b1=1"], [RECIPE], r"optimiser.*Did you mean .*optimizer"),
        (["optimizer.adamv.b1=1"], [RECIPE], r"adamv.*Did you mean .*adamw"),
        ([], ["recipes/quikstart_stage1.gin"], r"Did you mean recipes/quickstart_stage1\.gin"),
        (["DENOISING_STEPS"], [RECIPE], r"is not of the form NAME=VALUE"),
    ],
)
def test_a_typo_names_the_nearest_valid_name(bindings, files, message):
    with pytest.raises(gin_config.GinConfigError, match=message):
        _bind(*bindings, files=files)


@pytest.mark.slow  # imports all of it in a process of its own
def test_a_file_that_is_no_recipe_is_told_apart():
    command = [sys.executable, "-m", "codet5p_jax.cli.main", "train"]  # gin remembers modules
    done = subprocess.run(
        [*command, "--gin_file=models/codet5p_test.gin"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "add --gin_file=runs/pretrain.gin" in done.stderr


def test_what_a_recipe_requires_is_listed_with_its_flags():
    with pytest.raises(gin_config.GinConfigError, match=r"Give .*--gin\.MODEL_DIR=\.\.\."):
        gin_config.bind(train, gin_files=[RECIPE], bindings=[])


@pytest.mark.parametrize(
    "words, message",
    [
        (["tarin"], "unknown command 'tarin'. Did you mean train?"),
        (["train"], "Give a recipe: codet5p train --gin_file="),
        (["train", "--gin_flie=x"], "Did you mean --gin_file"),
        (["pretrain", "--recipe=quikstart", "--out=x"], "Did you mean quickstart?"),
        (
            [
                "train",
                f"--gin_file={RECIPE}",
                "--gin.TRAIN_STEPS=900",
                *(f"--gin.{f}" for f in FOLDERS),
            ],
            "TRAIN_STEPS is 900, but the phases have 400 steps (denoising 100, all 300)",
        ),
        (
            ["train", f"--gin_file={RECIPE}", *(f"--gin.{f}" for f in FOLDERS)],
            "CORPUS_DIR is '/tmp/c', which is no folder. Give the output of `codet5p corpus build`",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("codet5p: error: ") and message in lines[0]


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 0
    assert "pretrain" in capsys.readouterr().out


def test_resolved_bindings_hold_values_where_the_files_hold_macros(tmp_path):
    (tmp_path / "more.gin").write_text("UNREAD_MACRO = 1")
    _bind("CLM_BATCH_SIZE=24", files=[RECIPE, str(tmp_path / "more.gin")])
    bound = gin_config.resolved_bindings()
    dataset = "codet5p_jax.data.batches.DatasetConfig"
    assert bound[f"seq2seq_clm/{dataset}.batch_size"] == "24"
    assert bound[f"seq2seq_clm/{dataset}.task_feature_lengths"] == "{'inputs': 96, 'targets': 96}"
    assert not any("UNREAD_MACRO" in name for name in bound)


def test_a_written_configuration_resolves_to_the_same(tmp_path):
    _bind()
    before = gin_config.resolved_bindings()
    (tmp_path / "config.gin").write_text(gin_config.config_text())
    gin_config.parse(gin_files=[str(tmp_path / "config.gin")], bindings=[])
    assert gin_config.resolved_bindings() == before
