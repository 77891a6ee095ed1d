"""Tests of codet5p_jax.cli.pretrain; the stations themselves run in tests/end_to_end."""

import argparse
import json

import pytest

from codet5p_jax.cli import pretrain, stations
from codet5p_jax.cli.pretrain import RECIPES, plan
from codet5p_jax.cli.stations import Station


@pytest.fixture
def calls(monkeypatch):
    """The commands that were run; the one called "fail" fails once."""
    made = []

    def call(words):
        made.append(words[0])
        return 1 if words[0] == "fail" and made.count("fail") == 1 else 0

    monkeypatch.setattr(stations, "call", call)
    return made


def _stations(tmp_path, *names):
    result = tmp_path / "result"
    result.touch()
    return [Station(name, [name], result) for name in names]


def _run(monkeypatch, tmp_path, job):
    monkeypatch.setattr(pretrain, "plan", lambda recipe, out: job)
    return pretrain.run(argparse.Namespace(recipe="quickstart", out=str(tmp_path), dry_run=False))


def test_a_failed_station_stops_the_job_and_is_run_again(monkeypatch, tmp_path, calls, capsys):
    job = _stations(tmp_path, "first", "fail", "last")
    assert _run(monkeypatch, tmp_path, job) == 1
    assert "'fail' failed with exit code 1" in capsys.readouterr().err
    assert _run(monkeypatch, tmp_path, job) == 0
    assert calls == ["first", "fail", "fail", "last"]


def test_a_station_whose_result_is_gone_or_command_changed_runs_again(monkeypatch, tmp_path, calls):
    [first, last] = _stations(tmp_path, "first", "last")
    assert _run(monkeypatch, tmp_path, [first, last]) == 0
    assert _run(monkeypatch, tmp_path, [first, last]) == 0
    assert calls == ["first", "last"]
    assert _run(monkeypatch, tmp_path, [first, Station("last", ["other"], last.result)]) == 0
    assert calls[2:] == ["other"]
    first.result.unlink()
    assert _run(monkeypatch, tmp_path, [first]) == 0
    assert calls[3:] == ["first"]


def test_a_station_that_is_stopped_when_done_again_is_not_done(monkeypatch, tmp_path, calls):
    """As when stage 2 was deleted, begun again and killed: its files are there, half trained."""
    job = _stations(tmp_path, "first", "second", "third")
    assert _run(monkeypatch, tmp_path, job) == 0
    job[1] = Station("second", ["killed"], tmp_path / "gone")
    monkeypatch.setattr(stations, "call", lambda words: 137)
    assert _run(monkeypatch, tmp_path, job) == 137
    job[1] = Station("second", ["second"], tmp_path / "result")
    monkeypatch.setattr(stations, "call", lambda words: calls.append(words[0]) or 0)
    assert _run(monkeypatch, tmp_path, job) == 0
    assert calls[3:] == ["second", "third"]


def test_what_was_done_is_recorded_with_its_seconds(monkeypatch, tmp_path, calls):
    _run(monkeypatch, tmp_path, _stations(tmp_path, "first"))
    record = json.loads((tmp_path / "stations.json").read_text())["first"]
    assert record["words"] == ["first"] and record["seconds"] >= 0


def test_the_plan_names_each_station_once_and_writes_below_out(tmp_path):
    job = plan(RECIPES["quickstart"], tmp_path)
    assert len({station.name for station in job}) == len(job)
    assert all(station.result.is_relative_to(tmp_path) for station in job)


def test_the_end_says_how_codet5p_comes_to_the_path_where_it_is_not(
    monkeypatch, tmp_path, calls, capsys
):
    environment = tmp_path / ".venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "activate").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrain.sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setenv("PATH", "")
    assert _run(monkeypatch, tmp_path, _stations(tmp_path, "first")) == 0
    assert "Try next:\n  source .venv/bin/activate\n  codet5p infer" in capsys.readouterr().out
    monkeypatch.setenv("PATH", str(environment))
    (environment / "codet5p").touch(mode=0o755)
    assert _run(monkeypatch, tmp_path, _stations(tmp_path, "first")) == 0
    assert "Try next:\n  codet5p infer" in capsys.readouterr().out
