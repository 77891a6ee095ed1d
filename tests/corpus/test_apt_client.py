"""Tests of codet5p_jax.corpus.apt_client, with stand-ins for apt's programs on the path."""

import time

import pytest

from codet5p_jax.corpus.apt_client import (
    deb822_sources,
    fetch_source_packages,
    one_line_sources,
)
from codet5p_jax.corpus.recipes import Package

APT_CONFIG = """#!/bin/sh
echo "LIST='{root}/sources.list'"
echo "PARTS='{root}/sources.list.d/'"
"""
APT_CACHE = """#!/bin/sh
for word in "$@"; do
  case "$word" in redis|lua|gone) echo "Package: $word" ;; esac
done
"""
APT_GET = """#!/bin/sh
for word in "$@"; do
  case "$word" in
    Dir::State::Lists=*) lists=${word#*=} ;;
    Dir::Etc::SourceParts=*) parts=${word#*=} ;;
    --print-uris) print=1 ;;
  esac
done
case "$*" in
  *update*) cat "$parts"/* > "{root}/asked"; touch "$lists/mirror_Sources"; exit 0 ;;
esac
for word in "$@"; do
  case "$word" in
    redis|lua)
      if [ "$print" ]; then
        echo "'x://y/${word}_7.0.orig.tar.gz' ${word}_7.0.orig.tar.gz 8 SHA256:0"
        echo "'x://y/${word}_7.0-1.debian.tar.xz' ${word}_7.0-1.debian.tar.xz 8 SHA256:0"
      else
        printf upstream > "${word}_7.0.orig.tar.gz"
        printf packaged > "${word}_7.0-1.debian.tar.xz"
        if [ "$word" = lua ]; then printf half > "${word}_7.0.orig.tar.gz"; fi
      fi ;;
    gone)
      echo "E: Failed to fetch x://y/pool/gone_1.0.orig.tar.gz  404  Not Found" >&2 ;;
  esac
done
"""


@pytest.fixture
def apt(tmp_path, fake_programs):
    root = tmp_path / "machine"
    (root / "sources.list.d").mkdir(parents=True)
    (root / "sources.list").write_text("deb x://mirror stable main\n")
    (root / "sources.list.d/own.sources").write_text("Types: deb\nURIs: x://other\n")
    programs = {"apt-config": APT_CONFIG, "apt-cache": APT_CACHE, "apt-get": APT_GET}
    fake_programs(**{name: text.replace("{root}", str(root)) for name, text in programs.items()})
    return root


def _fetch(directory, *names):
    packages = [Package(name=name, ecosystem="apt") for name in names]
    done = []
    results = fetch_source_packages(
        packages, directory, time.monotonic() + 60, lambda: done.append(1)
    )
    assert len(done) == len(packages)
    return results


def test_source_packages_are_fetched_with_their_packaging(apt, tmp_path):
    (redis,) = _fetch(tmp_path / "apt", "redis")
    names = [path.rpartition("/")[2] for path in redis.archives]
    assert names == ["redis_7.0.orig.tar.gz", "redis_7.0-1.debian.tar.xz"]
    assert redis.version == "7.0" and not redis.reason


def test_the_sources_of_the_machine_are_asked_for_source_packages(apt, tmp_path):
    _fetch(tmp_path / "apt", "redis")
    asked = (apt / "asked").read_text()
    assert "deb-src x://mirror stable main" in asked
    assert "Types: deb-src\nURIs: x://other" in asked


def test_what_is_unknown_missing_or_cut_short_is_told(apt, tmp_path):
    results = _fetch(tmp_path / "apt", "redis", "unknown", "gone", "lua")
    assert results[0].archives and not any(result.archives for result in results[1:])
    assert results[1].reason == "apt knows no such source package"
    assert results[2].reason == "its archive is missing upstream (404)"
    assert not list((tmp_path / "apt").glob("lua_*.orig*"))


def test_archives_that_are_there_are_not_fetched_again(apt, tmp_path, fake_programs):
    first = _fetch(tmp_path / "apt", "redis")
    fake_programs(**{"apt-get": "#!/bin/sh\nexit 1\n"})
    assert _fetch(tmp_path / "apt", "redis") == first


def test_a_network_that_is_missing_is_told(tmp_path, fake_programs):
    failing = "#!/bin/sh\necho \"W: Failed to fetch x://y Temporary failure resolving 'y'\" >&2\n"
    fake_programs(**{"apt-get": failing, "apt-cache": failing, "apt-config": failing})
    (redis,) = _fetch(tmp_path / "apt", "redis")
    assert "Temporary failure resolving" in redis.reason and "x://" not in redis.reason


def test_without_apt_every_package_is_told(tmp_path, fake_programs):
    fake_programs()
    assert [f.reason for f in _fetch(tmp_path, "a")] == ["no apt-get on this machine"]


def test_entries_of_a_sources_list_ask_for_source_packages():
    text = "# c\ndeb [arch=amd64] x://m stable main\ndeb-src x://m stable main\ndeb cdrom:[d] s m\n"
    assert one_line_sources(text) == [
        "deb-src [arch=amd64] x://m stable main",
        "deb-src x://m stable main",
    ]


def test_stanzas_of_deb822_ask_for_source_packages():
    text = "Types: deb\nURIs: x://m\n# c\nSuites: s\n\nEnabled: no\nTypes: deb\nURIs: x://n\n"
    assert deb822_sources(text) == "Types: deb-src\nURIs: x://m\n# c\nSuites: s\n\n"
