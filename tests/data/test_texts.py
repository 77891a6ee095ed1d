import pytest

from codet5p_jax.data.sources import CorpusSource
from codet5p_jax.data.texts import corpus_texts, language_bytes


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


def test_limits_leave_out_what_a_language_has_beyond_them(corpus_dir):
    sizes = language_bytes(corpus_dir)
    texts = [text.encode() for text in corpus_texts(corpus_dir)]
    assert set(sizes["code_files"]) == {"python", "ruby"}
    assert sum(map(len, texts)) == sum(sum(counts.values()) for counts in sizes.values())
    limits = {dataset: min(counts.values()) // 2 for dataset, counts in sizes.items()}
    limited = [text.encode() for text in corpus_texts(corpus_dir, limits=limits)]
    longest = max(map(len, texts))
    assert all(limits.values())
    total = sum(map(len, limited))
    least = 2 * sum(limits.values())
    assert least <= total < least + 4 * longest  # each language may end with one text too much
    assert all(text in texts for text in limited)
