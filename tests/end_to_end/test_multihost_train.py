"""`codet5p train` as two processes on a real corpus: batches, losses, checkpoints and refusals."""

import json
import os
import re
import shutil
import signal
import sys
import time

import numpy as np
import pytest

from codet5p_jax.cli.main import main
from codet5p_jax.training.checkpoints import newest_step
from tests.corpora import (  # noqa: F401
    _reset_registry,
    finished_corpus_dir,
    registry,
    tokenizer,
    tokenizer_dir,
)
from tests.launched import wait_until
from tests.recorded_batches import FOLDER, recorded

pytestmark = pytest.mark.slow

TRAIN = (sys.executable, "-m", "codet5p_jax.cli.main", "train")
RECORDED = """
from __gin__ import dynamic_registration
from codet5p_jax.cli import train as train_command
from codet5p_jax.training import curriculum
from codet5p_jax.training import schedules
from tests import recorded_batches

train_command.train.partitioner = @recorded_batches.RecordingPartitioner()
recorded_batches.RecordingPartitioner.model_dir = %MODEL_DIR
curriculum.Curriculum.phases = [@denoising/curriculum.Phase()]
PHASE1_STREAMS = [@span_denoising/curriculum.Stream(), @decoder_clm/curriculum.Stream()]
SCHEDULE = @schedules.constant()
LEARNING_RATE = 1e-2
WARMUP_STEPS = 1
DENOISING_STEPS = 4
TRAIN_STEPS = 4
LOG_PERIOD = 1
CHECKPOINT_PERIOD = 2
EVAL_PERIOD = None
"""
ONE_STREAM = """
from __gin__ import dynamic_registration
from codet5p_jax.training import curriculum
from codet5p_jax.training import schedules

curriculum.Curriculum.phases = [@denoising/curriculum.Phase()]
SCHEDULE = @schedules.constant()
LOG_PERIOD = 1
CHECKPOINT_PERIOD = 5
EVAL_PERIOD = None
"""


@pytest.fixture
def flags(finished_corpus_dir, tokenizer_dir, tokenizer, tmp_path):  # noqa: F811
    """Returns a function: MODEL_DIR, gin text, others -> flags that train a toy twin."""

    def words(model_dir, text, *others):
        changes = tmp_path / "changes.gin"
        changes.write_text(text)
        return (
            "--gin_file=recipes/stage1_220m.gin",
            "--gin_file=runs/toy.gin",
            f"--gin_file={changes}",
            f"--gin.MODEL_DIR={model_dir}",
            f"--gin.CORPUS_DIR={finished_corpus_dir}",
            f"--gin.TOKENIZER_DIR={tokenizer_dir}",
            f"--gin.VOCAB_SIZE={tokenizer.vocab_size}",
            *others,
        )

    return words


def _losses(model_dir):
    lines = (model_dir / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [(m["step"], {k: v for k, v in m.items() if k.endswith("loss")}) for m in found]


def _assert_same_losses(one, other):
    assert len(one) == len(other) > 0
    for (step, losses), (other_step, other_losses) in zip(one, other, strict=True):
        assert step == other_step and losses.keys() == other_losses.keys()
        for name, loss in losses.items():  # sums over devices in another order
            np.testing.assert_allclose(other_losses[name], loss, rtol=1e-6, err_msg=name)


def _assert_same_batches(one, other):
    assert len(one) == len(other) > 0
    for batch, other_batch in zip(one, other, strict=True):
        assert batch.keys() == other_batch.keys()
        for name, rows in batch.items():
            assert rows.dtype == other_batch[name].dtype
            np.testing.assert_array_equal(other_batch[name], rows, err_msg=name)


def _train_alone(words):
    """Runs the command in this process, on two of its devices."""
    with pytest.raises(SystemExit) as stopped:
        main(["train", *words])
    assert stopped.value.code == 0


def test_two_processes_see_the_batches_and_losses_of_one_and_resume_each_others_runs(
    launch,
    registry,  # noqa: F811
    flags,
    tmp_path,
    capsys,
):
    one, two = tmp_path / "one", tmp_path / "two"
    _train_alone(flags(one, RECORDED))
    batches, losses = recorded(one), _losses(one)
    assert len(batches) == 4 * 2 and batches[0]["encoder_input_tokens"].shape == (8, 48)
    run = launch(2, *TRAIN, *flags(two, RECORDED))
    assert run.end(within=150) == 0, run.output
    _assert_same_batches(batches, recorded(two))
    _assert_same_losses(losses, _losses(two))

    for model_dir in (one, two):  # back to step 2; then the other number of processes goes on
        shutil.rmtree(model_dir / "checkpoint_4")
        shutil.rmtree(model_dir / FOLDER)
    capsys.readouterr()
    _reset_registry()
    _train_alone(flags(two, RECORDED))
    run = launch(2, *TRAIN, *flags(one, RECORDED))
    assert run.end(within=150) == 0, run.output
    for model_dir, output in ((one, run.output), (two, capsys.readouterr().out)):
        assert f"Resuming from step 2 of {model_dir}" in output
        _assert_same_batches(batches[2 * 2 :], recorded(model_dir))
        _assert_same_losses(losses, _losses(model_dir))


def test_processes_with_different_learning_rates_refuse_to_start(
    launch,
    flags,
    tmp_path,
):
    model_dir = tmp_path / "m"
    words = (*TRAIN, *flags(model_dir, ""))
    text = f"exec {' '.join(words)} --gin.LEARNING_RATE=1e-$((JAX_PROCESS_ID + 3))"
    run = launch(2, "bash", "-c", text)
    assert run.end(within=120) == 2, run.output
    for index in (0, 1):
        said = [line for line in run.output.splitlines() if line.startswith(f"[{index}]")]
        assert any("Process 1 of 2 and process 0 have different conf" in line for line in said)
        assert f"[{index}]   LEARNING_RATE: 0.001 in process 0, 0.0001 in process 1" in said
    assert not model_dir.exists()


def test_a_killed_process_ends_the_other_within_a_minute_and_the_relaunch_resumes(
    launch,
    flags,
    tmp_path,
):
    model_dir = tmp_path / "m"
    long = ("--gin.DENOISING_STEPS=5000", "--gin.TRAIN_STEPS=5000")
    run = launch(2, *TRAIN, *flags(model_dir, ONE_STREAM, *long))
    wait_until(lambda: (newest_step(model_dir) or 0) >= 5, within=180)
    os.kill(run.children()[1], signal.SIGKILL)
    killed_at = time.monotonic()
    assert run.end(within=60) == 128 + signal.SIGKILL, run.output
    assert time.monotonic() - killed_at < 60
    named = r"\[0\] codet5p: error: Process 1 \([\w.-]+, pid \d+\)"
    assert re.search(rf"{named} .*\n.* run continues from its newest", run.output), run.output
    step = newest_step(model_dir)
    short = (f"--gin.DENOISING_STEPS={step + 2}", f"--gin.TRAIN_STEPS={step + 2}")
    again = launch(2, *TRAIN, *flags(model_dir, ONE_STREAM, *short))
    assert again.end(within=180) == 0, again.output
    assert f"Resuming from step {step} of {model_dir}" in again.output
    assert [step for step, _ in _losses(model_dir)] == list(range(1, step + 3))
