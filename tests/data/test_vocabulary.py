import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from codet5p_jax.data.vocabulary import CodeVocabulary
from codet5p_jax.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return CodeVocabulary(tokenizer)


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_tensorflow_and_python_agree_on_any_text(vocabulary, text):
    ids = vocabulary.encode(text)
    assert vocabulary.encode_tf(tf.constant(text)).numpy().tolist() == ids
    assert vocabulary.decode(ids) == text
    if ids:
        decoded = vocabulary.decode_tf(tf.constant(ids, tf.int32)).numpy()
        assert decoded.decode("utf-8") == text


def test_ids_are_those_of_the_tokenizer(vocabulary, tokenizer):
    assert (vocabulary.pad_id, vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id) == (
        *(0, 1, 2, 3),
    )
    assert vocabulary.vocab_size == tokenizer.vocab_size


def test_vocabularies_of_equal_tokenizers_are_equal(tokenizer):
    other = train_tokenizer(["a b c"] * 9, 263, min_frequency=2)
    assert CodeVocabulary(tokenizer) == CodeVocabulary(tokenizer)
    assert CodeVocabulary(tokenizer) != CodeVocabulary(other)
    assert len({CodeVocabulary(tokenizer), CodeVocabulary(tokenizer)}) == 1
