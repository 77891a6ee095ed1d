"""Tests of codet5p_jax.corpus.pip_client: the real pip, with a folder of wheels as its index."""

import time

import pytest

from codet5p_jax.corpus import pip_client
from codet5p_jax.corpus.recipes import Package


@pytest.fixture
def index(tmp_path, monkeypatch, write_wheel):
    """A pip that finds wheels in one folder and nowhere else."""
    folder = tmp_path / "index"
    write_wheel(folder, "alpha", {"a.py": "x = 1\n"})
    write_wheel(folder, "beta_two", {"b.py": "x = 1\n"}, version="2.5")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _fetch(names, directory):
    packages = [
        Package(name=name, ecosystem="pip", version=version or None)
        for name, _, version in (name.partition("==") for name in names)
    ]
    done = []
    results = pip_client.fetch_wheels(
        packages, directory, time.monotonic() + 240, lambda: done.append(1)
    )
    assert len(done) == len(packages)
    return results


def test_wheels_are_fetched_and_fetched_once(index, tmp_path):
    first = _fetch(["alpha", "Beta-Two==2.5"], tmp_path / "pip")
    assert [f.version for f in first] == ["1.0", "2.5"]
    assert all(not f.reason for f in first)
    for wheel in index.iterdir():
        wheel.unlink()
    assert _fetch(["alpha", "Beta-Two==2.5"], tmp_path / "pip") == first


def test_a_package_that_is_missing_is_told_and_the_others_come(index, tmp_path):
    alpha, gamma = _fetch(["alpha", "gamma"], tmp_path / "pip")
    assert alpha.archives and not gamma.archives
    assert "gamma" in gamma.reason


def test_another_version_is_not_taken(index, tmp_path):
    (result,) = _fetch(["alpha==9.9"], tmp_path / "pip")
    assert not result.archives and "9.9" in result.reason


def test_without_pip_every_package_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(pip_client, "_pip", lambda: None)
    assert [f.reason for f in _fetch(["a", "b"], tmp_path)] == ["no pip on this machine"] * 2
