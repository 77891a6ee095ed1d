import re

import pytest

from codet5p_jax.cli.main import main
from codet5p_jax.cli.tokenizer import byte_limits
from codet5p_jax.tokenizer import CodeTokenizer
from tests.corpora import corpus_dir  # noqa: F401


def _run(*arguments):
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return exit_.value.code


def test_training_writes_a_tokenizer_and_says_where(corpus_dir, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "tokenizer"
    code = _run("tokenizer", "train", f"--corpus={corpus_dir}", f"--out={out}", "--vocab_size=600")
    assert code == 0
    tokenizer = CodeTokenizer.from_directory(out)
    assert tokenizer.base_size == 600
    shown = capsys.readouterr().out
    assert f"600 entries and 700 ids, fingerprint {tokenizer.fingerprint}" in shown
    assert re.search(r"in MB of code: python 0\.\d of 0\.\d, ruby 0\.\d of 0\.\d", shown)


def test_a_missing_corpus_is_one_line_and_code_2(tmp_path, capsys):
    code = _run("tokenizer", "train", f"--corpus={tmp_path}", f"--out={tmp_path / 'out'}")
    assert code == 2 and "codet5p corpus build" in capsys.readouterr().err


def test_no_language_gives_more_than_the_average_unless_told_so():
    sizes = {"code_files": {"c": 10, "go": 300, "php": 9_000}, "code_functions": {}}
    assert byte_limits(sizes, None) == {"code_files": 3_103, "code_functions": 0}
    assert byte_limits(sizes, 50) == {"code_files": 50, "code_functions": 50}
    assert byte_limits(sizes, 0) == {"code_files": 9_310, "code_functions": 0}
    with pytest.raises(ValueError, match="--bytes_per_language is -1; it must be 0 or more"):
        byte_limits(sizes, -1)
