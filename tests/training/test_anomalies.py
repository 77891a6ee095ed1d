"""Tests of codet5p_jax.training.anomalies; whole runs are in test_loop.py."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.training.anomalies import AnomalyWatch, LossSpikeError
from codet5p_jax.training.loss_guard import Kind, LossGuard, Verdict, roll_back, skip, stop

BATCHES = {"lm": {"tokens": np.arange(6).reshape(2, 3)}}


def _verdict(kind):
    loss = jnp.float32(np.nan if kind == Kind.NON_FINITE else 7.0)
    return Verdict(jnp.int32(kind), loss, jnp.float32(5.0), jnp.float32(1.0), {"lm/loss": loss})


def _watch(model_dir, newest=lambda: 2, **guard):
    return AnomalyWatch(model_dir, LossGuard(**guard), newest_checkpoint=newest)


def _read(watch, step, kind):
    watch.add(step, _verdict(kind), BATCHES)
    return watch.must_roll_back(unread=0)


def test_a_verdict_is_read_once_a_later_step_was_added(tmp_path):
    watch = _watch(tmp_path, on_spike=roll_back)
    watch.add(1, _verdict(Kind.SPIKE), BATCHES)
    assert not watch.must_roll_back(unread=1)
    watch.add(2, _verdict(Kind.HEALTHY), BATCHES)
    assert watch.must_roll_back(unread=1)
    assert watch.events[0]["step"] == 1 and watch.events[0]["rolled_back_to"] == 2


def test_steps_taken_again_behind_a_roll_back_are_no_progress(tmp_path):
    """Else a run that fails at each step 5 anew would go back for ever."""
    watch = _watch(tmp_path, on_spike=roll_back, max_in_row=2)
    for _ in range(2):
        assert _read(watch, 5, Kind.SPIKE)
        assert not any(_read(watch, step, Kind.HEALTHY) for step in (3, 4))
    with pytest.raises(LossSpikeError, match=r"7 is above 5 at step 5 .*number 3 in a row"):
        _read(watch, 5, Kind.SPIKE)


def test_progress_beyond_an_anomaly_ends_the_row(tmp_path):
    watch = _watch(tmp_path, on_spike=skip, max_in_row=1)
    for step in (3, 5, 7):
        assert not _read(watch, step, Kind.SPIKE)
        assert not _read(watch, step + 1, Kind.HEALTHY)
    assert [event["in_row"] for event in watch.events] == [1, 1, 1]


def test_a_spike_that_stops_the_run_says_how_to_go_on(tmp_path):
    watch = _watch(tmp_path, on_spike=stop)
    with pytest.raises(LossSpikeError, match=r"batches_of_step_3\.npz.*ON_SPIKE=@loss_guard\.skip"):
        _read(watch, 3, Kind.SPIKE)
    np.testing.assert_array_equal(
        np.load(tmp_path / "batches_of_step_3.npz")["lm/tokens"], BATCHES["lm"]["tokens"]
    )


def test_events_are_printed_and_kept_as_strict_json(tmp_path, capsys):
    _read(_watch(tmp_path, on_non_finite=skip), 3, Kind.NON_FINITE)
    assert "lm/loss (nan), loss (nan) is not finite at step 3: skipped" in capsys.readouterr().out
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["losses"] == {"lm/loss": "nan"}


def test_half_a_line_of_a_killed_run_is_dropped(tmp_path):
    _read(_watch(tmp_path, on_spike=skip), 3, Kind.SPIKE)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"step": 4, "ki')
    watch = _watch(tmp_path, on_spike=skip)
    assert [event["step"] for event in watch.events] == [3]
    _read(watch, 5, Kind.SPIKE)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [3, 5]
