"""Tests of codet5p_jax.corpus.build, from sources at hand and from packages of a stand-in."""

import fcntl
import json
import os

import fsspec
import pytest
from etils.epath import gpath
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from codet5p_jax.corpus import build
from codet5p_jax.corpus.build import build_from_recipe, build_from_sources
from codet5p_jax.corpus.datasets import read_dataset, verify
from codet5p_jax.corpus.fetch import Fetched
from codet5p_jax.corpus.installed import installed_sources
from codet5p_jax.corpus.manifest import read_manifest
from codet5p_jax.corpus.recipes import Package, Recipe
from codet5p_jax.corpus.records import SPLITS
from codet5p_jax.corpus.sources import sources_of_path
from tests.corpus.conftest import MIT, python_module


def _recipe(names, **kwargs):
    splits = ("train", "validation", "test", "train")
    packages = tuple(
        Package(name=name, ecosystem="pip", why="test", split=split)
        for name, split in zip(names, splits, strict=False)
    )
    fields = dict(name="small", description="", packages=packages, max_bytes=10**6)
    return Recipe(**{**fields, **kwargs})


def _client_of(repositories):
    def fetch(packages, directory, deadline, on_done):
        found = {path.name.split("-")[0]: str(path) for path in repositories.iterdir()}
        return [
            Fetched(package=p, version="1", archives=(found[p.name],))
            if p.name in found
            else Fetched(package=p, reason="no network")
            for p in packages
        ]

    return {"pip": fetch}


NAMES = ("alpha", "beta", "gamma", "delta")


def test_a_recipe_becomes_a_corpus_with_a_manifest(repositories, tmp_path):
    manifest = build_from_recipe(
        _recipe(NAMES), tmp_path / "c", clients=_client_of(repositories), num_shards=2
    )
    assert json.loads((tmp_path / "c/manifest.json").read_text()) == manifest
    assert manifest["splits"]["test"]["pairs"] == 10  # 3 modules of 3 functions, and a class
    assert {r["repository"] for r in read_dataset(tmp_path / "c", "code_files", split="test")} == {
        "gamma"
    }
    assert set(manifest["languages"]) == {"java", "python"}
    assert verify(tmp_path / "c") == 4 * (3 + 10)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c"]


def test_a_data_set_becomes_a_corpus_split_by_repository(tmp_path):
    """Two files hold functions of the same repositories, as the shards of CodeSearchNet may."""
    code = "def area_{0}(radius):\n    square = radius * {0}\n    return 3 * square + {0}"
    for shard in "ab":
        rows = [
            {
                "repo": f"octo/{number % 40}",
                "path": "shapes.py",
                "func_name": f"area_{number}",
                "original_string": code.format(number),
                "docstring": "",
                "language": "python",
            }
            for number in range(ord(shard) * 100, ord(shard) * 100 + 80)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{shard}.jsonl").write_text(lines)
    sources = sources_of_path(tmp_path, license="MIT")
    manifest = build_from_sources(sources, tmp_path / "c", num_shards=2)
    assert [(s["name"][-7:], s["split"], s["files"]) for s in manifest["sources"]] == [
        ("a.jsonl", "by repository", 80),
        ("b.jsonl", "by repository", 80),
    ]
    assert manifest["notes"] == []
    repositories = {
        split: {
            r["repository"] for r in read_dataset(tmp_path / "c", "code_functions", split=split)
        }
        for split in ("train", "validation", "test")
    }
    assert {len(names) > 0 for names in repositories.values()} == {True}
    assert not repositories["train"] & (repositories["validation"] | repositories["test"])


def test_a_data_set_without_licences_needs_one_or_a_flag(tmp_path):
    row = {"repo": "o/a", "path": "a.py", "func_name": "f", "original_string": "def f(): pass"}
    row |= {"language": "python", "docstring": ""}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    sources = sources_of_path(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match=r"a\.jsonl has no column of licences.*--licenses=any"):
        build_from_sources(sources, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    manifest = build_from_sources(sources, tmp_path / "c", licenses=("any",))
    assert manifest["sources"][0]["license"] == "NOASSERTION"


def test_a_corpus_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="No sources to build a corpus of"):
        build_from_sources([], tmp_path / "c")


def test_a_corpus_that_is_there_is_kept(repositories, tmp_path):
    clients = _client_of(repositories)
    first = build_from_recipe(_recipe(NAMES), tmp_path / "c", clients=clients)
    assert build_from_recipe(_recipe(NAMES), tmp_path / "c", clients={}) == first


def test_another_corpus_is_never_overwritten(repositories, corpus, tmp_path):
    with pytest.raises(FileExistsError, match="holds another corpus"):
        build_from_recipe(_recipe(NAMES), corpus, clients=_client_of(repositories))
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="something that is no corpus"):
        build_from_recipe(_recipe(NAMES), tmp_path, clients=_client_of(repositories))


def test_a_build_that_was_killed_leaves_no_corpus_and_is_done_again(
    repositories, tmp_path, monkeypatch
):
    sources = sources_of_path(repositories)
    expected = build_from_sources(sources, tmp_path / "whole", num_shards=2)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            build_from_sources(sources, tmp_path / "c", num_shards=2)
    assert not (tmp_path / "c").exists()
    again = build_from_sources(sources, tmp_path / "c", num_shards=2)
    assert again["fingerprint"] == expected["fingerprint"]
    assert not (tmp_path / "c.partial").exists()


@pytest.mark.parametrize("last", ["extracted", "pairs"])
def test_a_build_that_was_killed_while_it_cleared_up_is_done_again(
    repositories, tmp_path, monkeypatch, last
):
    """A folder is removed file by file: some of its chunks are gone, what tells of them is not."""
    sources = sources_of_path(repositories)
    expected = build_from_sources(sources, tmp_path / "whole", num_shards=2)
    rmtree = gpath.PosixGPath.rmtree

    def killed(folder, **kwargs):
        if folder.name == last:
            for file in (*folder.glob("*.records"), *folder.glob("*.npy")):
                file.unlink()
                raise KeyboardInterrupt
        rmtree(folder, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(gpath.PosixGPath, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            build_from_sources(sources, tmp_path / "c", num_shards=2)
    again = build_from_sources(sources, tmp_path / "c", num_shards=2)
    assert again["fingerprint"] == expected["fingerprint"]
    assert verify(tmp_path / "c") == verify(tmp_path / "whole")


def test_what_was_extracted_under_other_licences_is_not_taken(repositories, tmp_path, monkeypatch):
    """Without a network the standard library's licence is allowed; with one again, no more."""
    recipe = _recipe(NAMES, licenses=("ISC",))
    sources = sources_of_path(repositories)[:1]
    monkeypatch.setattr(build, "STANDARD_LIBRARY_LICENSE", "MIT")
    monkeypatch.setattr(build, "installed_sources", lambda max_bytes: sources)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(build, "write_manifest", killed)
        build_from_recipe(recipe, tmp_path / "c", clients={})
    manifest = build_from_recipe(recipe, tmp_path / "c", clients=_client_of(repositories))
    assert set(manifest["licenses"]) == set()


def test_two_builds_of_one_folder_at_once_are_an_error(repositories, tmp_path):
    sources = sources_of_path(repositories)
    (tmp_path / "c.partial").mkdir()
    other = os.open(tmp_path / "c.partial", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(FileExistsError, match=r"Another process builds .*c\.partial now: wait"):
        build_from_sources(sources, tmp_path / "c", num_shards=2)
    os.close(other)
    build_from_sources(sources, tmp_path / "c", num_shards=2)


@pytest.mark.parametrize("number", [0, -1, 100_000])
def test_numbers_of_shards_that_make_no_sense_are_told(repositories, tmp_path, number):
    with pytest.raises(ValueError, match=rf"--num_shards is {number}: give 1 to 99,999"):
        build_from_sources(sources_of_path(repositories), tmp_path / "c", num_shards=number)
    with pytest.raises(ValueError, match=rf"--num_shards is {number}"):
        build_from_recipe(_recipe(NAMES), tmp_path / "c", clients={}, num_shards=number)
    assert not [*tmp_path.iterdir()]


def test_packages_that_are_missing_are_told(repositories, tmp_path):
    manifest = build_from_recipe(
        _recipe(("alpha", "beta", "gamma", "nowhere")),
        tmp_path / "c",
        clients=_client_of(repositories),
    )
    missing = [s for s in manifest["sources"] if s["status"] == "missing"]
    assert [(s["name"], s["reason"]) for s in missing] == [("nowhere", "no network")]
    assert manifest["notes"] == ["pip: 1 packages are missing; nowhere: no network."]


def test_without_network_what_is_installed_becomes_the_corpus(repositories, tmp_path, monkeypatch):
    monkeypatch.setattr(
        build,
        "installed_sources",
        lambda max_bytes: installed_sources(max_bytes=60_000, max_total=1_500_000),
    )
    recipe = _recipe(("a", "b", "c"))
    manifest = build_from_recipe(recipe, tmp_path / "c", clients=_client_of(repositories))
    assert manifest["notes"][0].startswith("Only 0 of 3 packages could be fetched")
    assert all(counts["pairs"] > 0 for counts in manifest["splits"].values())
    assert "PSF-2.0" in manifest["licenses"]


def test_repositories_of_evaluation_sets_are_dropped_and_told(repositories, tmp_path):
    manifest = build_from_sources(
        sources_of_path(repositories), tmp_path / "c", excluded=["x/beta-1.1.tar.gz"]
    )
    dropped = [s for s in manifest["sources"] if s["status"] == "dropped"]
    assert [s["name"] for s in dropped] == ["beta-1.1.tar.gz"]
    records = read_dataset(tmp_path / "c", "code_files", split="train")
    assert "beta-1.1.tar.gz" not in {r["repository"] for r in records}


def test_a_single_repository_is_split_by_file_and_says_so(repositories, tmp_path):
    sources = sources_of_path(repositories / "alpha-1.0.tar.gz")
    manifest = build_from_sources(sources, tmp_path / "c")
    assert any("split one by one" in note for note in manifest["notes"])


def test_no_sources_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="--recipe or --source"):
        build_from_sources([], tmp_path / "c")


@pytest.fixture
def planted(repositories, tmp_path):
    """The repositories, and one that holds what no corpus may, besides an evaluation set."""
    secrets = f"""def connect(host):
    token = "gh{"p"}_{"a1B2" * 9}"
    session = open_session(host, token, mail="jane@roe.org")
    return session
"""
    answer = """def median_of_positives(numbers):
    positives = sorted(number for number in numbers if number > 0)
    middle = len(positives) // 2
    if len(positives) % 2:
        return positives[middle]
    return (positives[middle - 1] + positives[middle]) / 2
"""
    folder = tmp_path / "sources"
    (folder / "mine").mkdir(parents=True)
    for archive in repositories.iterdir():
        (folder / archive.name).symlink_to(archive)
    (folder / "mine/LICENSE").write_text(MIT)
    (folder / "mine/connect.py").write_text(secrets + "\n\n" + python_module("connect"))
    (folder / "mine/answers.py").write_text(answer + "\n\n" + python_module("answers"))
    exam = tmp_path / "exam"
    exam.mkdir()
    (exam / "tasks.jsonl").write_text(json.dumps({"canonical_solution": answer}))
    (exam / "repositories.txt").write_text("someone/beta-1.1.tar.gz\n")
    return sources_of_path(folder), exam


def test_nothing_that_was_planted_is_in_the_corpus_and_the_manifest_tells_it(planted, tmp_path):
    sources, exam = planted
    out = tmp_path / "c"
    manifest = build_from_sources(sources, out, evaluation_sets=[exam], num_workers=2)
    records = [
        record
        for dataset in ("code_files", "code_functions")
        for split in SPLITS
        for record in read_dataset(out, dataset, split=split)
    ]
    text = repr(records)
    assert "def connect(host)" in text and "answers_0" in text
    assert not [
        planted
        for planted in ("a1B2a1B2", "jane@roe.org", "median_of_positives", "beta-1.1.tar.gz")
        if planted in text
    ]
    assert 'token = "<SECRET>"' in text and 'mail="<EMAIL>"' in text
    assert manifest["scrubbed"] == {"E-mail address": 1, "GitHub Token": 1}
    assert manifest["evaluation_sets"] == {"exam": {"file": 1, "function": 1}}
    assert manifest["rejections"]["function: in evaluation set exam"] == 1
    dropped = {s["name"]: s["reason"] for s in manifest["sources"] if s["status"] == "dropped"}
    assert dropped == {"beta-1.1.tar.gz": "it is in an evaluation set"}
    assert not (out / "evaluation").exists()


def test_a_corpus_for_other_evaluation_sets_is_another(planted, tmp_path):
    sources, exam = planted
    build_from_sources(sources, tmp_path / "c", evaluation_sets=[exam])
    with (exam / "tasks.jsonl").open("a") as stream:
        stream.write("\n" + json.dumps({"prompt": python_module("alpha_a")}))
    with pytest.raises(FileExistsError, match="holds another corpus"):
        build_from_sources(sources, tmp_path / "c", evaluation_sets=[exam])


def test_an_evaluation_set_that_is_not_there_is_told_before_anything_is_read(planted, tmp_path):
    sources, _ = planted
    with pytest.raises(FileNotFoundError, match="No evaluation set at"):
        build_from_sources(sources, tmp_path / "c", evaluation_sets=[tmp_path / "nowhere"])


def test_a_corpus_is_built_in_a_bucket(repositories, corpus, tmp_path, monkeypatch):
    """A folder stands for the bucket: the paths go through etils and fsspec as to a real one."""

    class Bucket(DirFileSystem):
        protocol = ("gcs", "gs")

        def __init__(self, **_):
            super().__init__(path=str(tmp_path), fs=LocalFileSystem(auto_mkdir=True))

        @classmethod
        def _strip_protocol(cls, path):
            return path.removeprefix("gs://").removeprefix("gcs://")

    fsspec.register_implementation("gcs", Bucket, clobber=True)
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)  # its file system asks Google
    sources = sources_of_path(repositories)
    manifest = build_from_sources(sources, "gs://bucket/small", num_shards=2)
    assert manifest["fingerprint"] == read_manifest(corpus)["fingerprint"]
    assert verify(tmp_path / "bucket" / "small") == verify(corpus)
    assert not (tmp_path / "bucket" / "small.partial").exists()
