"""Tests of `codet5p report`."""

import json

import pytest

from codet5p_jax.cli import main


def _model_dir(directory, **metadata):
    directory.mkdir()
    (directory / "metrics.jsonl").write_text(json.dumps({"step": 1, "a/loss": 2.0}) + "\n")
    (directory / "run_metadata.json").write_text(json.dumps(metadata))
    return directory


def _corpus(directory):
    directory.mkdir()
    (directory / "manifest.json").write_text(json.dumps({"recipe": "the recipe"}))
    return directory


def test_report_joins_the_stages_and_finds_the_corpus_in_the_metadata(tmp_path, capsys):
    corpus = _corpus(tmp_path / "corpus")
    stage1 = _model_dir(tmp_path / "stage1")
    stage2 = _model_dir(tmp_path / "stage2", corpus={"path": str(corpus)}, git_revision="c0ffee")
    with pytest.raises(SystemExit) as stopped:
        main.main(["report", str(stage2), f"--also={stage1}"])
    assert stopped.value.code == 0
    page = (stage2 / "report.html").read_text()
    assert str(stage2 / "report.html") in capsys.readouterr().out
    for expected in ("run 1: stage1", "run 2: stage2", "c0ffee", "the recipe"):
        assert expected in page


def test_corpus_given_on_the_command_line_wins(tmp_path):
    run = _model_dir(tmp_path / "run", corpus={"path": "/nowhere"})
    with pytest.raises(SystemExit):
        main.main(["report", str(run), f"--corpus={_corpus(tmp_path / 'corpus')}"])
    assert "the recipe" in (run / "report.html").read_text()


def test_a_directory_without_metrics_is_one_line_of_error_and_exit_code_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main.main(["report", str(tmp_path)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "codet5p: error: No metrics.jsonl" in error and "codet5p train" in error
    assert not (tmp_path / "report.html").exists()
