import pytest

from codet5p_jax.cli.main import main
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
    assert (
        f"600 entries and 700 ids, fingerprint {tokenizer.fingerprint}" in capsys.readouterr().out
    )


def test_a_missing_corpus_is_one_line_and_code_2(tmp_path, capsys):
    code = _run("tokenizer", "train", f"--corpus={tmp_path}", f"--out={tmp_path / 'out'}")
    assert code == 2 and "codet5p corpus build" in capsys.readouterr().err
