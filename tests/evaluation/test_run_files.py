"""Tests of codet5p_jax.evaluation.run_files: what killed and resumed runs leave behind."""

import json

import pytest

from codet5p_jax.evaluation.run_files import (
    RunFiles,
    loss_names,
    metric_names,
    non_finite_steps,
    phase_starts,
    read_metrics,
    series,
    splits,
)


def _write(directory, *lines):
    path = directory / "metrics.jsonl"
    path.write_text(
        "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    )
    return path


def _run(directory, *lines):
    _write(directory, *lines)
    return RunFiles.read(directory)


def test_an_unfinished_last_line_is_left_out_and_named(tmp_path):
    records, skipped = read_metrics(
        _write(tmp_path, {"step": 1, "a/loss": 2.0}, {"step": 2, "a/loss": 1.0}, '{"step": 3, "a/l')
    )
    assert [record["step"] for record in records] == [1, 2]
    assert skipped == (3,)


def test_bytes_that_are_no_text_and_lines_that_are_no_record_are_left_out(tmp_path):
    path = _write(tmp_path, {"step": 1}, "[1, 2]\n", '{"no": "step"}\n', "\n", {"step": 2})
    path.write_bytes(path.read_bytes() + b"\xff\xfe\x00\n")
    records, skipped = read_metrics(path)
    assert [record["step"] for record in records] == [1, 2]
    assert skipped == (2, 3, 6)


def test_a_resumed_run_replaces_the_steps_it_repeats(tmp_path):
    run = _run(
        tmp_path,
        {"step": 1, "split": "train", "a/loss": 9.0},
        {"step": 2, "split": "train", "a/loss": 8.0, "b": 1.0},
        {"step": 2, "split": "train", "a/loss": 7.0},
        {"step": 2, "split": "eval", "a/loss": 5.0},
    )
    assert series(run, "a/loss", split="train") == ((1, 2), (9, 7))
    assert series(run, "a/loss", split="eval") == ((2,), (5,))
    assert series(run, "b", split="train") == ((2,), (1,))


def test_values_that_are_not_finite_are_left_out_of_curves_and_named(tmp_path):
    run = _run(tmp_path, {"step": 1, "loss": 1.0}, {"step": 2, "loss": float("nan")})
    assert series(run, "loss", split="train") == ((1,), (1,))
    assert non_finite_steps(run, "loss") == (2,)


def test_losses_metrics_splits_and_phases_are_found_by_name(tmp_path):
    run = _run(
        tmp_path,
        {"step": 1, "split": "eval", "phase": "one", "loss": 3.0},
        {"step": 1, "split": "train", "phase": "one", "loss": 3.0, "x/loss": 1.0, "time": 9.0},
        {"step": 5, "split": "train", "phase": "two", "pairs/matching_loss": 1, "note": "text"},
    )
    assert loss_names(run) == ("x/loss", "pairs/matching_loss", "loss")
    assert metric_names(run) == ("loss", "pairs/matching_loss", "x/loss")
    assert splits(run) == ("train", "eval")
    assert phase_starts(run) == ((0, "one"), (1, "two"))


def test_the_other_files_are_optional(tmp_path):
    run = _run(tmp_path, {"step": 1})
    assert (run.config, run.metadata, run.evaluation) == ("", {}, None)


def test_a_directory_without_metrics_is_an_error_that_says_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected the MODEL_DIR of a training run"):
        RunFiles.read(tmp_path)


def test_metrics_without_a_single_record_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"holds no metrics.*got 1 line"):
        read_metrics(_write(tmp_path, "garbage\n"))


def test_a_damaged_evaluation_is_an_error_with_its_path(tmp_path):
    (tmp_path / "evaluation.json").write_text('{"losses": [')
    with pytest.raises(ValueError, match=r"evaluation\.json.*is no JSON file"):
        _run(tmp_path, {"step": 1})


def test_an_evaluation_that_is_no_object_is_an_error(tmp_path):
    (tmp_path / "evaluation.json").write_text("[]")
    with pytest.raises(ValueError, match="should hold a JSON object, got list"):
        _run(tmp_path, {"step": 1})
