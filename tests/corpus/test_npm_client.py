"""Tests of codet5p_jax.corpus.npm_client, with a stand-in for npm on the path."""

import time

from codet5p_jax.corpus.npm_client import fetch_npm_packages
from codet5p_jax.corpus.recipes import Package

NPM = """#!/bin/sh
for word in "$@"; do
  case "$word" in
    --pack-destination=*) folder=${word#--pack-destination=} ;;
    left-pad@1.3.0) echo archive > "$folder/left-pad-1.3.0.tgz" ;;
    *@*) echo "npm error code E404" >&2; echo half > "$folder/half.tgz"; exit 1 ;;
  esac
done
"""


def _fetch(directory, *names):
    packages = [Package(name=name, ecosystem="npm", version="1.3.0") for name in names]
    return fetch_npm_packages(packages, directory, time.monotonic() + 60, lambda: None)


def test_archives_are_fetched_and_what_is_missing_is_told(tmp_path, fake_programs):
    fake_programs(npm=NPM)
    good, bad = _fetch(tmp_path / "npm", "left-pad", "@scope/none")
    assert good.version == "1.3.0" and good.archives[0].endswith("left-pad-1.3.0.tgz")
    assert bad.reason == "npm error code E404" and not bad.archives
    assert [p.name for p in (tmp_path / "npm").rglob("*.tgz")] == ["left-pad-1.3.0.tgz"]


def test_archives_that_are_there_are_not_fetched_again(tmp_path, fake_programs):
    fake_programs(npm=NPM)
    first = _fetch(tmp_path / "npm", "left-pad")
    fake_programs(npm="#!/bin/sh\nexit 1\n")
    assert _fetch(tmp_path / "npm", "left-pad") == first


def test_without_npm_every_package_is_told(tmp_path, fake_programs):
    fake_programs()
    assert [f.reason for f in _fetch(tmp_path, "a", "b")] == ["no npm on this machine"] * 2
