"""Tests of codet5p_jax.cli.doctor and findings: the command, its page and its JSON."""

import json

import pytest
from rich.console import Console

from codet5p_jax.cli import doctor, findings
from codet5p_jax.cli.findings import Severity, ok, problem, warning


@pytest.fixture(scope="module")
def brittle_tensorflow(tmp_path_factory):
    """A folder whose tensorflow fails at once, as one with a missing library does."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "tensorflow.py").write_text("raise ImportError('libtensorflow.so.2: not found')")
    return folder


@pytest.fixture
def without_tensorflow(brittle_tensorflow, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(brittle_tensorflow))


def test_broken_tensorflow_is_a_problem_and_all_else_is_still_checked(
    codet5p, without_tensorflow, tmp_path
):
    code, out, _ = codet5p(
        "doctor",
        "--json",
        "--gin_file=recipes/quickstart_stage1.gin",
        f"--model_dir={tmp_path}/run",
        f"--gin.CORPUS_DIR={tmp_path}/corpus",
    )
    page = json.loads(out)
    by_subject = {finding["subject"]: finding for finding in page["findings"]}
    assert code == 1 and page["problems"] == 2
    assert "libtensorflow.so.2" in by_subject["import tensorflow"]["what"]
    assert "pip install --force-reinstall" in by_subject["import tensorflow"]["mend"]
    assert by_subject["recipe"]["severity"] == "warning"
    assert by_subject["devices"]["severity"] == "ok"
    assert by_subject["MODEL_DIR"]["what"] == f"{tmp_path}/run will be made"
    assert by_subject["CORPUS_DIR"]["severity"] == "problem"


@pytest.mark.slow  # imports TensorFlow
def test_a_recipe_is_parsed_and_the_folders_of_its_files_are_checked(codet5p, tmp_path):
    (tmp_path / "mine.gin").write_text(f"TOKENIZER_DIR = '{tmp_path}/tokenizer'")
    code, out, _ = codet5p(
        "doctor",
        "--json",
        "--gin_file=recipes/quickstart_stage1.gin",
        f"--gin_file={tmp_path}/mine.gin",
        f"--model_dir={tmp_path}/run",
        f"--corpus_dir={tmp_path}/corpus",
    )
    found = [(f["subject"], f["severity"]) for f in json.loads(out)["findings"]]
    assert code == 1 and ("recipe", "ok") in found
    assert ("CORPUS_DIR", "problem") in found and ("TOKENIZER_DIR", "problem") in found


def test_a_machine_without_problems_exits_with_0(codet5p, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda *_: {"machine": [ok("disk", "large")]})
    code, out, _ = codet5p("doctor")
    assert code == 0 and "1 checks: 0 problems, 0 warnings" in out


SECTIONS = {
    "machine": [ok("disk", "60.0 GiB free"), warning("memory", "1 GiB", mend="close something")],
    "run": [problem("CORPUS_DIR", "is [bold]no folder " + "that " * 30, mend="build " + "x" * 120)],
}


@pytest.mark.parametrize("width", [80, 120])
def test_a_page_keeps_its_width_and_its_commands_whole(width, capsys):
    findings.print_findings(SECTIONS, Console(width=width))
    lines = capsys.readouterr().out.splitlines()
    commands = [line for line in lines if line.startswith("    mend: ")]
    assert commands == ["    mend: close something", "    mend: build " + "x" * 120]
    assert max(len(line) for line in lines if line not in commands) <= width
    assert "  problem  CORPUS_DIR  is [bold]no folder that" in "\n".join(lines)
    assert lines[-1] == "3 checks: 1 problem, 1 warning"


def test_json_counts_what_is_bad():
    page = findings.as_json(SECTIONS)
    assert (page["problems"], page["warnings"]) == (1, 1)
    assert page["findings"][0] == {
        "section": "machine",
        "severity": Severity.OK,
        "subject": "disk",
        "what": "60.0 GiB free",
        "mend": None,
    }


def test_the_last_line_of_an_error_is_the_one_that_says_something():
    assert findings.last_line("Traceback\n  x\nImportError: gone\n\n") == "ImportError: gone"
    assert findings.last_line("\n") == "no message"
