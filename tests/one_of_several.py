"""A run of a tiny model that may be one of several processes; tests start it by its module name.

python -m tests.one_of_several MODEL_DIR [--pairs] [--steps=6] [--pause=0.1] [--silence_seconds=5]
"""

import argparse
import dataclasses
import os
import sys
import time

import jax
import numpy as np

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.sizes import model_config
from codet5p_jax.objectives.bimodal import BimodalObjective
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training.cluster import find_cluster
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
from codet5p_jax.training.loop import Run, Schedule
from codet5p_jax.training.multihost import ALONE, join, local_rows
from codet5p_jax.training.optimizer import adamw
from codet5p_jax.training.partitioning import Partitioner
from codet5p_jax.training.program import Program
from codet5p_jax.training.schedules import linear

ROWS = 8  # of a global batch
SETTING = "loop.Schedule.log_period"


def _model():
    """One layer each side, with dropout: which row is where must not matter."""
    config = model_config("codet5p_test")
    return CodeT5p(dataclasses.replace(config, num_encoder_layers=1, num_decoder_layers=1))


class RowBatches:
    """Batches made row by row, each with a position of its own, as virtual shards are."""

    def __init__(self, make_row, *, rows, pause):
        self._make_row, self._pause = make_row, pause
        self._positions = dict.fromkeys(map(int, rows), 0)

    def __next__(self):
        time.sleep(self._pause)
        made = [self._make_row(np.random.default_rng(key)) for key in self._positions.items()]
        self._positions = {row: position + 1 for row, position in self._positions.items()}
        return {name: np.stack([row[name] for row in made]) for name in made[0]}

    def get_state(self):
        return {f"row_{row}": np.array([n]) for row, n in self._positions.items()}

    def set_state(self, state):
        self._positions = {row: int(state[f"row_{row}"][0]) for row in self._positions}

    def close(self):
        pass


def _denoising_row(numbers):
    tokens = numbers.integers(5, 400, 10).astype(np.int32)
    targets = tokens[:6]
    return {
        "encoder_input_tokens": tokens,
        "decoder_input_tokens": np.pad(targets[:-1], (1, 0)),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": np.ones_like(targets),
    }


def _pair_row(numbers):
    tokens = numbers.integers(5, 400, 6).astype(np.int32)
    tokens[0], tokens[-1] = 1, 2
    pair = np.int32(numbers.integers(1_000_000))
    return {"text_tokens": tokens, "code_tokens": tokens, "pair_ids": pair}


def _curriculum(steps, pairs):
    model = _model()
    denoising = Stream(
        name="denoising",
        objective=Seq2SeqObjective(model=model),
        dataset=_denoising_row,
        eval_dataset=_denoising_row,
    )
    bimodal = Stream(
        name="pairs",
        objective=BimodalObjective(model=model, text_length=6, code_length=6, queue_size=2 * ROWS),
        dataset=_pair_row,
    )
    streams = [denoising, bimodal] if pairs else [denoising]
    return Curriculum(phases=[Phase(name="all", steps=steps, streams=streams)])


def make_run(model_dir, *, pairs=False, steps=6, pause=0.0, processes=ALONE, devices=None):
    """Returns a run that logs every step, and saves and evaluates every third."""
    partitioner = Partitioner(devices=devices)

    def open_batches(make_row):
        rows = local_rows(partitioner.mesh, partitioner.batch_axes, ROWS)
        return RowBatches(make_row, rows=rows, pause=pause)

    program = Program(
        curriculum=_curriculum(steps, pairs),
        learning_rate=linear(peak_learning_rate=1e-2, warmup_steps=1, total_steps=1_000),
        optimizer=adamw,
        partitioner=partitioner,
    )
    return Run(
        model_dir=str(model_dir),
        program=program,
        open_batches=open_batches,
        identity={"tokenizer": "abc"},
        metadata={},
        schedule=Schedule(log_period=1, checkpoint_period=3, eval_period=3, eval_batches=1),
        processes=processes,
    )


def main():
    """Trains; exits as `codet5p train` does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model_dir")
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--silence_seconds", type=float, default=5.0)
    parser.add_argument("--setting", default="same")
    arguments = parser.parse_args()
    cluster = find_cluster(os.environ, silence_seconds=arguments.silence_seconds)
    with join(cluster) as processes:
        processes.check_same({SETTING: arguments.setting})
        run = make_run(
            arguments.model_dir,
            pairs=arguments.pairs,
            steps=arguments.steps,
            pause=arguments.pause,
            processes=processes,
        )
        return run.train(on_started=lambda: print("started", jax.process_count(), flush=True))


if __name__ == "__main__":
    sys.exit(main())
