"""Tests of codet5p_jax.cli.run_checks: each bad folder is made for real."""

import json
import shutil

import pytest

from codet5p_jax.cli import run_checks
from codet5p_jax.cli.findings import Severity
from codet5p_jax.tokenizer import train_tokenizer

RECIPE = "recipes/quickstart_stage1.gin"


def _only(findings):
    (finding,) = findings
    return finding


def test_gin_files_are_read(tmp_path):
    (tmp_path / "one.gin").write_text("A = 1")
    assert _only(run_checks.gin_folders([tmp_path])).what == f"1 files in {tmp_path}"


def test_gin_that_cannot_be_read_is_a_problem(tmp_path):
    (tmp_path / "one.gin").mkdir()
    bad = _only(run_checks.gin_folders([tmp_path]))
    assert bad.severity is Severity.PROBLEM and bad.mend == f"chmod -R u+rX {tmp_path}"


def test_gin_that_is_a_package_is_a_problem(tmp_path):
    (tmp_path / "__init__.py").write_text("")
    bad = _only(run_checks.gin_folders([tmp_path]))
    assert bad.severity is Severity.PROBLEM and bad.mend == f"rm {tmp_path}/__init__.py"


@pytest.mark.parametrize("exists", [True, False])
def test_gin_that_is_not_there_is_a_problem(tmp_path, exists):
    bad = _only(run_checks.gin_folders([tmp_path] if exists else []))
    assert bad.severity is Severity.PROBLEM and bad.mend.startswith("git checkout -- ")


def test_a_recipe_says_which_folders_it_binds(tmp_path):
    files = [RECIPE, str(tmp_path / "mine.gin")]
    (tmp_path / "mine.gin").write_text("CORPUS_DIR = '/data/corpus'")
    found, bound = run_checks.recipe(files, ["MODEL_DIR=/m", "TOKENIZER_DIR=/t"])
    assert found.severity is Severity.OK and "parses" in found.what
    assert bound == {"MODEL_DIR": "/m", "TOKENIZER_DIR": "/t", "CORPUS_DIR": "/data/corpus"}


@pytest.mark.parametrize(
    "files, bindings, mend",
    [
        ([RECIPE], ["MODEL_DRI=/m"], "Did you mean MODEL_DIR or "),
        ([RECIPE], ["MODEL_DIR=/m", "CORPUS_DIR=/c"], "Give --gin.TOKENIZER_DIR=..."),
        (
            ["recipes/quickstart_instruct.gin"],
            ["MODEL_DIR=/m", "TOKENIZER_DIR=/t", "INITIAL_CHECKPOINT_PATH=/i"],
            "Give --gin.INSTRUCTION_FILES=\"{'NAME': 'FILE.json'}\"",
        ),
        (["recipes/quikstart_stage1.gin"], [], "Did you mean recipes/quickstart_stage1.gin"),
    ],
)
def test_a_recipe_that_does_not_parse_is_a_problem_with_the_nearest_name(files, bindings, mend):
    found, bound = run_checks.recipe(files, bindings)
    assert found.severity is Severity.PROBLEM and found.mend.startswith(mend) and not bound


def test_a_gin_file_that_names_a_broken_module_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "broken_objective.py").write_text("undefined")
    (tmp_path / "mine.gin").write_text(
        "from __gin__ import dynamic_registration\nimport broken_objective\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found, bound = run_checks.recipe([str(tmp_path / "mine.gin")], [])
    assert found.severity is Severity.PROBLEM and not bound
    assert "NameError: name 'undefined' is not defined" in found.what


def test_a_recipe_that_was_not_parsed_says_why():
    for importable, words in ((True, "in time"), (False, "TensorFlow")):
        found, bound = run_checks.read_recipe(None, importable=importable)
        assert found.severity is Severity.WARNING and words in found.what and not bound


def test_what_the_recipe_program_prints_is_what_the_recipe_returns(capsys):
    bindings = ["MODEL_DIR=/m", "CORPUS_DIR=/c", "TOKENIZER_DIR=/t"]
    exec(run_checks.recipe_program([RECIPE], bindings), {})
    printed = capsys.readouterr().out
    read = run_checks.read_recipe(printed, importable=True)
    assert read == run_checks.recipe([RECIPE], bindings)


def test_folders_are_taken_from_bindings():
    given = run_checks.folder_bindings(["MODEL_DIR='/m'", "TRAIN_STEPS=3", "CORPUS_DIR=/c"])
    assert given == {"MODEL_DIR": "/m", "CORPUS_DIR": "/c"}


def test_a_model_dir_that_can_be_made_is_well(tmp_path):
    assert "will be made" in _only(run_checks.model_dir(tmp_path / "a" / "b")).what
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/run"])
def test_a_model_dir_that_cannot_be_written_is_a_problem(tmp_path, place):
    (tmp_path / "file").write_text("")
    bad = _only(run_checks.model_dir(tmp_path / place))
    assert bad.severity is Severity.PROBLEM and "cannot be written" in bad.what


def test_the_newest_checkpoint_of_a_model_dir_is_read(model_dir):
    writable, readable = run_checks.model_dir(model_dir)
    assert writable.severity is readable.severity is Severity.OK
    assert readable.what == f"checkpoint_7 of {model_dir} can be read"


def test_of_a_large_checkpoint_the_index_is_read(model_dir, monkeypatch):
    monkeypatch.setattr(run_checks, "READ_WHOLE", 10)
    found = _only(run_checks.initial_checkpoint(model_dir))
    assert found.severity is Severity.OK and "its index" in found.what


@pytest.mark.parametrize("limit", [run_checks.READ_WHOLE, 10])
def test_a_damaged_checkpoint_is_a_problem(model_dir, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(run_checks, "READ_WHOLE", limit)
    damaged = tmp_path / "model"
    shutil.copytree(model_dir, damaged)
    for path in (damaged / "checkpoint_7" / "state").rglob("manifest.ocdbt"):
        path.write_bytes(b"")
    bad = run_checks.model_dir(damaged)[-1]
    assert bad.severity is Severity.PROBLEM and "checkpoint_7 cannot be read" in bad.what
    assert bad.mend.endswith(f" {damaged}/unreadable_checkpoint_7")


def test_checkpoints_that_were_set_aside_are_named(tmp_path):
    (tmp_path / "unreadable_checkpoint_5").mkdir()
    *_, found = run_checks.model_dir(tmp_path)
    assert found.severity is Severity.WARNING and "unreadable_checkpoint_5" in found.what
    assert found.mend == f"rm -r {tmp_path}/unreadable_checkpoint_5"


def test_an_initial_checkpoint_that_is_not_there_is_a_problem(tmp_path):
    bad = _only(run_checks.initial_checkpoint(tmp_path))
    assert bad.severity is Severity.PROBLEM and "holds no checkpoint" in bad.what


def test_a_finished_corpus_is_well(tmp_path):
    manifest = {"fingerprint": "0123456789abcdef", "languages": {"python": {}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    found = _only(run_checks.corpus_dir(tmp_path))
    assert found.what == f"{tmp_path}: 1 languages, fingerprint 0123456789ab"


@pytest.mark.parametrize("manifest", [None, "{", "{}"])
def test_an_unfinished_corpus_is_a_problem(tmp_path, manifest):
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    bad = _only(run_checks.corpus_dir(tmp_path))
    assert bad.severity is Severity.PROBLEM and "holds no finished build" in bad.what
    assert bad.mend == f"codet5p corpus build --recipe=quickstart --out={tmp_path}"


def test_a_tokenizer_is_loaded(tmp_path):
    train_tokenizer(["def mean(values):\n    return values\n" * 9], 270, min_frequency=2).save(
        tmp_path
    )
    found = _only(run_checks.tokenizer_dir(tmp_path))
    assert found.severity is Severity.OK and found.what.endswith(" ids")


@pytest.mark.parametrize("text", [None, "{}", "["])
def test_a_folder_without_a_tokenizer_is_a_problem(tmp_path, text):
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    bad = _only(run_checks.tokenizer_dir(tmp_path))
    assert bad.severity is Severity.PROBLEM and "codet5p tokenizer train" in bad.mend


@pytest.mark.parametrize("check", [run_checks.corpus_dir, run_checks.tokenizer_dir])
def test_a_file_in_place_of_a_folder_is_a_problem(check, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is no folder" in _only(check(tmp_path / "file")).what


def test_an_empty_cache_is_a_problem(tmp_path):
    assert _only(run_checks.cache_dir(tmp_path)).severity is Severity.PROBLEM
    (tmp_path / "a_task").mkdir()
    assert _only(run_checks.cache_dir(tmp_path)).severity is Severity.OK


def test_folders_are_checked_by_their_macro(tmp_path):
    found = run_checks.folders({"CORPUS_DIR": "/nowhere", "MODEL_DIR": str(tmp_path)})
    assert [finding.subject for finding in found] == ["MODEL_DIR", "MODEL_DIR", "CORPUS_DIR"]
