import pytest

from codet5p_jax.data.sources import CorpusSource
from codet5p_jax.data.texts import corpus_texts


def test_texts_are_all_files_and_all_documentation(corpus_dir):
    texts = list(corpus_texts(corpus_dir))
    files = sum(
        CorpusSource("code_files", corpus_dir=corpus_dir, language=name).num_input_examples("train")
        for name in ("python", "ruby")
    )
    assert len(texts) > files and all(texts)
    assert "import" in texts[0] and len(texts[-1]) < 2_000


def test_a_directory_without_corpus_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing matches .*code_files-train"):
        next(corpus_texts(tmp_path))
