import pytest
import seqio

import tasks
from codet5p_jax.data.vocabulary import CodeVocabulary
from codet5p_jax.tokenizer import train_tokenizer

pytestmark = pytest.mark.usefixtures("registry")
LANGUAGES = ("python", "ruby")


def test_every_objective_has_a_task_per_language_and_a_mixture(corpus_dir, tokenizer_dir):
    tasks.register(corpus_dir, tokenizer_dir)
    assert (
        set(seqio.MixtureRegistry.names())
        == set(tasks.MIXTURES)
        == {
            *("unimodal_span_denoising", "unimodal_seq2seq_clm", "unimodal_decoder_clm"),
            "bimodal_pairs",
        }
    )
    for mixture in tasks.MIXTURES:
        assert len(seqio.MixtureRegistry.get(mixture).tasks) == 9


def test_registering_twice_alike_does_nothing(corpus_dir, tokenizer_dir, tokenizer):
    for _ in range(2):
        tasks.register(corpus_dir, tokenizer_dir, languages=LANGUAGES)
    features = seqio.MixtureRegistry.get("bimodal_pairs").output_features
    assert features["code"].vocabulary == CodeVocabulary(tokenizer)
    assert features["pair_id"].rank == 0


def test_registering_otherwise_names_what_differs(corpus_dir, tokenizer_dir, tokenizer, tmp_path):
    tasks.register(corpus_dir, tokenizer_dir, languages=LANGUAGES)
    with pytest.raises(ValueError, match=r"languages \('python', 'ruby'\), now \('ruby',\)"):
        tasks.register(corpus_dir, tokenizer_dir, languages=["ruby"])
    with pytest.raises(ValueError, match=r"temperature 1\.4.*, now 2\.0"):
        tasks.register(corpus_dir, tokenizer_dir, languages=LANGUAGES, temperature=2.0)
    train_tokenizer(["a b c"] * 9, 263, min_frequency=2).save(tmp_path)
    with pytest.raises(ValueError, match=f"tokenizer '{tokenizer.fingerprint}', now"):
        tasks.register(corpus_dir, tmp_path, languages=LANGUAGES)


def test_a_cache_of_another_tokenizer_is_refused(corpus_dir, cache_dir, tmp_path):
    train_tokenizer(["a b c"] * 9, 263, min_frequency=2).save(tmp_path)
    with pytest.raises(ValueError, match=r"cache in .* was written with tokenizer"):
        tasks.register(corpus_dir, tmp_path, languages=LANGUAGES, cache_dir=cache_dir)


def test_missing_directories_are_named(corpus_dir, tokenizer_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="No tokenizer in"):
        tasks.register(corpus_dir, tmp_path)
    with pytest.raises(FileNotFoundError, match="No dataset 'code_files' in the corpus"):
        tasks.register(tmp_path, tokenizer_dir)
