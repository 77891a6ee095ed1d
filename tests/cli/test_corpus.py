"""Tests of codet5p_jax.cli.corpus."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from codet5p_jax.cli.main import main
from codet5p_jax.corpus import build
from codet5p_jax.corpus.manifest import read_manifest

CODE = '''def area_{i}(radius):
    """Returns the area of circle number {i}."""
    pi = {i} + 3.14159
    square = radius * radius
    return pi * square if radius > 0 else {i}


'''


def _run(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["corpus", *map(str, arguments)])
    return stopped.value.code


@pytest.fixture
def sources(tmp_path):
    for number, name in enumerate(("one", "two", "three")):
        folder = tmp_path / "sources" / name
        folder.mkdir(parents=True)
        text = "".join(CODE.format(i=10 * number + i) for i in range(4))
        (folder / f"{name}.py").write_text(text)
    return tmp_path / "sources"


def test_a_corpus_is_built_and_shown(sources, tmp_path, capsys):
    out = tmp_path / "corpus"
    assert _run("build", f"--source={sources}", "--license=MIT", f"--out={out}") == 0
    assert f"The corpus is in {out}" in capsys.readouterr().out
    assert _run("show", out, "--verify") == 0
    assert "15 records read, all whole." in capsys.readouterr().out


def test_a_corpus_in_a_bucket_is_told_by_its_address(sources, built_corpus, monkeypatch, capsys):
    manifest = read_manifest(built_corpus)
    monkeypatch.setattr(build, "build_from_sources", lambda *_, **__: manifest)
    assert _run("build", f"--source={sources}", "--license=MIT", "--out=gs://bucket/c") == 0
    assert "The corpus is in gs://bucket/c\n" in capsys.readouterr().out


def test_control_characters_in_names_of_sources_are_shown_not_obeyed(sources, tmp_path, capsys):
    (sources / "one").rename(sources / "one\x1b]0;title\x07")
    out = tmp_path / "corpus"
    assert _run("build", f"--source={sources}", "--license=MIT", f"--out={out}") == 0
    assert "one\ufffd]0;title\ufffd" in capsys.readouterr().out


def test_what_evaluation_sets_hold_is_left_out(sources, tmp_path, capsys):
    answer = "def longest(words):\n    ordered = sorted(words, key=len)\n    return ordered[-1]\n"
    (sources / "one/answers.py").write_text(answer + "\n\n" + "seconds = hours * 60 * 60\n" * 9)
    (tmp_path / "exam.jsonl").write_text(json.dumps({"solution": answer}))
    (tmp_path / "more").mkdir()
    (tmp_path / "more/repositories.txt").write_text("owner/two\n")
    sets = [f"--evaluation_sets={tmp_path / name}" for name in ("exam.jsonl", "more")]
    out = tmp_path / "corpus"
    assert _run("build", f"--source={sources}", "--license=MIT", *sets, f"--out={out}") == 0
    assert "function: in evaluation set exam" in capsys.readouterr().out
    manifest = read_manifest(out)
    assert manifest["evaluation_sets"] == {
        "exam": {"file": 1, "function": 1},
        "more": {"file": 0, "function": 0},
    }
    assert {s["name"] for s in manifest["sources"] if s["status"] == "dropped"} == {"two"}


def test_more_licences_are_kept_where_the_flag_says_so(sources, tmp_path, capsys):
    arguments = ["build", f"--source={sources}", "--license=MPL-2.0"]
    assert _run(*arguments, f"--out={tmp_path / 'none'}") == 2
    printed = capsys.readouterr()
    assert "licence: MPL-2.0" in printed.out and "none is empty: the table above" in printed.err
    assert _run(*arguments, "--licenses=permissive,mpl-2.0", f"--out={tmp_path / 'all'}") == 0
    assert read_manifest(tmp_path / "all")["licenses"]["MPL-2.0"]["code_functions"] == 12


def test_a_data_set_is_built_with_a_field_map_of_ones_own(tmp_path):
    (tmp_path / "own.json").write_text('{"content": "text", "repository": "from", "path": "file"}')
    rows = [
        {"text": CODE.format(i=i), "from": f"o/{i}", "file": "a.py", "stars": 3} for i in range(9)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["build", f"--source={tmp_path / 'a.jsonl'}", "--license=MIT"]
    assert _run(*arguments, f"--field_map={tmp_path / 'own.json'}", f"--out={tmp_path / 'c'}") == 0
    (source,) = read_manifest(tmp_path / "c")["sources"]
    assert (source["files"], source["split"]) == (9, "by repository")


def test_options_of_beam_pass_through(sources, tmp_path, capsys):
    arguments = ["build", f"--source={sources}", "--license=MIT", f"--out={tmp_path / 'c'}"]
    assert _run(*arguments, "--runner=NoSuchRunner") == 2
    assert "NoSuchRunner" in capsys.readouterr().err
    assert _run(*arguments, "--", "--runner=NoSuchRunner") == 2
    assert "NoSuchRunner" in capsys.readouterr().err


def test_the_tilde_that_a_shell_leaves_in_a_flag_is_the_home_folder(sources, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(sources.parent))
    monkeypatch.chdir(tmp_path)
    source, out = f"--source=~/{sources.name}", "--out=~/from_home"
    assert _run("build", source, "--license=MIT", out) == 0
    assert read_manifest(sources.parent / "from_home")["splits"]


def test_a_mistake_is_one_line_that_says_what_to_do(tmp_path, capsys):
    assert _run("build", f"--out={tmp_path / 'c'}") == 2
    assert "Give either --recipe=NAME or --source=PATH" in capsys.readouterr().err
    assert _run("build", "--recipe=quikstart", f"--out={tmp_path / 'c'}") == 2
    assert "Did you mean 'quickstart'" in capsys.readouterr().err
    assert _run("build", "--recipe=quickstart", "--license=MIT", f"--out={tmp_path / 'c'}") == 2
    assert "describe what --source gives" in capsys.readouterr().err
    assert _run("build", "--source=.", "--licenses=MTI", f"--out={tmp_path / 'c'}") == 2
    assert "Did you mean MIT?" in capsys.readouterr().err
    assert _run("build", "--source=.", "--exclude=none.txt", f"--out={tmp_path / 'c'}") == 2
    assert "No file of names of repositories at none.txt: give one" in capsys.readouterr().err
    (tmp_path / "a.jsonl").write_text('{"body": "x"}\n')
    assert _run("build", f"--source={tmp_path / 'a.jsonl'}", f"--out={tmp_path / 'c'}") == 2
    assert "a.jsonl has the columns body. Expected" in capsys.readouterr().err
    assert _run("show", tmp_path) == 2
    assert "codet5p corpus build" in capsys.readouterr().err


def test_help_imports_neither_tensorflow_nor_beam_nor_jax():
    code = (
        "import sys; from codet5p_jax.cli.main import main\n"
        "try: main(['corpus', 'build', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'tensorflow', 'apache_beam', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_building_imports_neither_tensorflow_nor_jax():
    code = (
        "import sys, codet5p_jax.corpus.build, codet5p_jax.corpus.pipeline\n"
        "assert not {'tensorflow', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_processes_of_this_machine_build_the_same_corpus(sources, tmp_path):
    build = ["build", f"--source={sources}", "--license=MIT"]
    for count in "13":
        assert _run(*build, f"--num_workers={count}", f"--out={tmp_path / count}") == 0
    one, three = (read_manifest(tmp_path / count) for count in "13")
    assert one["fingerprint"] == three["fingerprint"]


def test_processes_and_archives_that_mean_nothing_are_mistakes(sources, tmp_path, capsys):
    build = ["build", f"--source={sources}", "--license=MIT", f"--out={tmp_path / 'c'}"]
    for wrong, message in (
        (["--num_workers=0"], "--num_workers is 0; give 1 or more."),
        (["--num_workers=2", "--runner=FlinkRunner"], "give one of them"),
        (["--num_workers=2", "--", "--runner=FlinkRunner"], "give one of them"),
        ([f"--archives={tmp_path}"], "--source reads what is there"),
    ):
        assert _run(*build, *wrong) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_build_that_was_killed_gives_the_corpus_of_one_that_was_not(sources, tmp_path):
    words = [sys.executable, "-m", "codet5p_jax.cli.main", "corpus", "build"]
    words += [f"--source={sources}", "--license=MIT", "--num_workers=2"]
    subprocess.run([*words, f"--out={tmp_path / 'whole'}"], check=True, capture_output=True)
    again = [*words, f"--out={tmp_path / 'killed'}"]
    killed = subprocess.Popen(
        again, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    extracted = tmp_path / "killed.partial" / "extracted"
    while not any(extracted.glob("*.json")):
        assert killed.poll() is None
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed").exists()
    subprocess.run(again, check=True, capture_output=True)
    one, other = (read_manifest(tmp_path / name) for name in ("whole", "killed"))
    assert one["fingerprint"] == other["fingerprint"]
