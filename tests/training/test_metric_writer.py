"""Tests of codet5p_jax.training.metric_writer and metric_window."""

import json

import jax.numpy as jnp
import numpy as np

from codet5p_jax.training.metric_window import MetricWindow
from codet5p_jax.training.metric_writer import MetricWriter
from codet5p_jax.typing import WeightedMean


def _lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_each_write_is_one_json_line_and_a_tensorboard_point(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write(10, "train", "denoising", {"a/loss": 2.5})
        writer.write(10, "eval", "denoising", {"a/loss": 3.5})
    first, second = _lines(tmp_path)
    assert (first["step"], first["split"], first["phase"], first["a/loss"]) == (
        10,
        "train",
        "denoising",
        2.5,
    )
    assert second["split"] == "eval"
    assert list((tmp_path / "train").glob("events.out.tfevents.*"))


def test_a_resumed_run_drops_what_came_after_its_checkpoint_and_half_a_line(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in (10, 20, 30):
            writer.write(step, "train", "p", {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "los')  # killed while writing
    with MetricWriter(tmp_path, resume_step=20) as writer:
        writer.write(30, "train", "p", {"loss": 2.0})
    assert [(line["step"], line["loss"]) for line in _lines(tmp_path)] == [
        (10, 1.0),
        (20, 1.0),
        (30, 2.0),
    ]


def test_a_window_gives_weighted_means_one_step_late():
    window = MetricWindow(period=2)

    def metrics(total, weight):
        return {"a/loss": WeightedMean(jnp.float32(total), jnp.float32(weight))}

    assert window.add(1, metrics(1.0, 1.0)) is None
    assert window.add(2, metrics(6.0, 2.0)) is None
    values = window.add(3, metrics(5.0, 1.0))
    assert values.step == 2
    np.testing.assert_allclose(values.metrics["a/loss"], 7.0 / 3.0, rtol=1e-6)
    rest = window.close()
    assert rest.step == 3 and rest.metrics["a/loss"] == 5.0
    assert window.close() is None


def test_a_rewound_run_writes_its_steps_again_once(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.write(step, "train", "p", {"loss": 1.0})
        writer.rewind(1)
        for step in (2, 3):
            writer.write(step, "train", "p", {"loss": 2.0})
    assert [(line["step"], line["loss"]) for line in _lines(tmp_path)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 2.0),
    ]


def test_a_metric_that_nothing_was_counted_for_is_left_out():
    window = MetricWindow(period=1)
    nothing, one = (
        WeightedMean(jnp.float32(0.0), jnp.float32(0.0)),
        WeightedMean(jnp.float32(0.0), jnp.float32(1.0)),
    )
    window.add(1, {"a/loss": nothing, "a/nonpadding_tokens": nothing, "b/loss": one})
    assert {k: v for k, v in window.close().metrics.items() if "timing" not in k} == {"b/loss": 0.0}
