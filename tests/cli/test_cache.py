import json

import pytest
import seqio

from codet5p_jax.cli.main import main
from tests.corpora import (  # noqa: F401
    codegen_dir,
    corpus_dir,
    registry,
    tokenizer,
    tokenizer_dir,
)

pytestmark = pytest.mark.usefixtures("registry")


def _run(*arguments):
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return exit_.value.code


def test_the_cache_holds_every_task(corpus_dir, tokenizer_dir, tmp_path, capsys):  # noqa: F811
    inputs = (f"--corpus={corpus_dir}", f"--tokenizer={tokenizer_dir}")
    assert _run("cache", *inputs, f"--out={tmp_path}", "--num_files=2") == 0
    assert "Cache of 54 tasks" in capsys.readouterr().out
    seqio.set_global_cache_dirs([str(tmp_path)])
    for name in seqio.TaskRegistry.names():
        assert seqio.TaskRegistry.get(name).cache_dir


def test_a_directory_without_tokenizer_is_one_line_and_code_2(corpus_dir, tmp_path, capsys):  # noqa: F811
    code = _run("cache", f"--corpus={corpus_dir}", f"--tokenizer={tmp_path}", f"--out={tmp_path}")
    assert code == 2 and "No tokenizer in" in capsys.readouterr().err


def test_instructions_are_cached_too(corpus_dir, tokenizer_dir, tmp_path, capsys):  # noqa: F811
    file = tmp_path / "alpaca.json"
    file.write_text('[{"instruction": "Say a.", "output": "a"}]')
    inputs = (f"--corpus={corpus_dir}", f"--tokenizer={tokenizer_dir}", f"--out={tmp_path / 'c'}")
    assert _run("cache", *inputs, "--num_files=1", f"--instructions=alpaca={file}") == 0
    assert "Cache of 55 tasks" in capsys.readouterr().out
    assert (tmp_path / "c" / "instruction_alpaca" / "COMPLETED").exists()


def test_instructions_are_cached_without_a_corpus(tokenizer_dir, tmp_path, capsys):  # noqa: F811
    file = tmp_path / "alpaca.json"
    file.write_text('[{"instruction": "Say a.", "output": "a"}]')
    out = (f"--tokenizer={tokenizer_dir}", f"--out={tmp_path / 'c'}")
    assert _run("cache", *out, f"--instructions=alpaca={file}") == 0
    assert "Cache of 1 task in" in capsys.readouterr().out
    origin = json.loads((tmp_path / "c" / "origin.json").read_text())
    assert set(origin) == {"tokenizer", "instruction_alpaca"}
    assert _run("cache", *out) == 2
    assert "nothing to cache: give --corpus, or --instructions" in capsys.readouterr().err


def test_a_corpus_is_cached_with_codegens_tokenizer(corpus_dir, codegen_dir, tmp_path, capsys):  # noqa: F811
    inputs = (f"--corpus={corpus_dir}", f"--tokenizer={codegen_dir}")
    assert _run("cache", *inputs, f"--out={tmp_path}", "--num_files=1") == 0
    assert "Cache of 54 tasks" in capsys.readouterr().out


def test_instructions_without_a_name_are_refused(corpus_dir, tokenizer_dir, tmp_path, capsys):  # noqa: F811
    inputs = (f"--corpus={corpus_dir}", f"--tokenizer={tokenizer_dir}", f"--out={tmp_path}")
    assert _run("cache", *inputs, "--instructions=alpaca.json") == 2
    assert "--instructions=alpaca.json is not of the form NAME=PATH" in capsys.readouterr().err
