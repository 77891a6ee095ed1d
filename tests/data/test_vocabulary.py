"""Tests of codet5p_jax.data.vocabulary: TensorFlow's side and Python's give the same."""

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from codet5p_jax.data.vocabulary import CodeVocabulary
from codet5p_jax.tokenizer import load_tokenizer, train_tokenizer
from tests.codegen_folder import END, write_codegen_folder

NASTY = ("<s>", "</s>", "<pad>", "<unk>", "<extra_id_0>", "[CLM]", "[ENC]", END, "\0", "\r\n", "\r")
NASTY = (
    *NASTY,
    "    ",
    "\t\t\t",
    "\n\n",
    " ",
    "\u2028",
    "\ufeff",
    "e\u0301",
    "漢字",
    "🎉",
    "\U0010ffff",
)
any_text = st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=6)), max_size=9).map("".join)


@pytest.fixture(scope="module")
def vocabularies(tokenizer, tmp_path_factory):
    """Of CodeT5's tokenizer and of CodeGen's."""
    folder = write_codegen_folder(tmp_path_factory.mktemp("codegen"), ["def f():\n    pass\n"] * 9)
    return CodeVocabulary(tokenizer), CodeVocabulary(load_tokenizer(folder))


@pytest.fixture(scope="module")
def in_graph(vocabularies):
    """The TensorFlow side, compiled as in a tf.data pipeline: text -> (ids, text)."""
    return [_compiled(vocabulary) for vocabulary in vocabularies]


def _compiled(vocabulary):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def both_ways(text):
        ids = vocabulary.encode_tf(text)
        return ids, vocabulary.decode_tf(ids)

    return both_ways


@settings(deadline=None, max_examples=300)
@given(any_text)
def test_tensorflow_and_python_agree_on_any_text(vocabularies, in_graph, text):
    for vocabulary, both_ways in zip(vocabularies, in_graph, strict=True):
        ids = vocabulary.encode(text)
        encoded, decoded = both_ways(text)
        assert encoded.numpy().tolist() == ids
        assert decoded.numpy().decode("utf-8") == vocabulary.decode(ids) == text


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 1_200), min_size=1, max_size=12))
def test_tensorflow_and_python_decode_any_ids_alike(vocabularies, ids):
    for vocabulary in vocabularies:
        decoded = vocabulary.decode_tf(tf.constant(ids, tf.int32)).numpy()
        assert decoded.decode("utf-8") == vocabulary.decode(ids)


def test_rows_of_a_batch_are_decoded_each_up_to_its_end(vocabularies):
    for vocabulary in vocabularies:
        ids, eos, pad = vocabulary.encode("x"), vocabulary.eos_id, vocabulary.pad_id
        rows = tf.constant([[*ids, eos, pad], [*ids, *ids, eos]], tf.int32)
        assert vocabulary.decode_tf(rows).numpy().tolist() == [b"x", b"xx"]


def test_ids_are_those_of_the_tokenizer(vocabularies, tokenizer):
    ours, codegen = vocabularies
    assert (ours.pad_id, ours.bos_id, ours.eos_id, ours.unk_id) == (0, 1, 2, 3)
    assert ours.vocab_size == tokenizer.vocab_size
    end = codegen.tokenizer.eos_id
    assert codegen.bos_id == codegen.eos_id == end
    assert codegen.pad_id == codegen.tokenizer.pad_id != end
    assert codegen.unk_id is None and codegen.vocab_size == codegen.tokenizer.vocab_size


def test_vocabularies_of_equal_tokenizers_are_equal(vocabularies, tokenizer):
    other = train_tokenizer(["a b c"] * 9, 263, min_frequency=2)
    assert CodeVocabulary(tokenizer) == CodeVocabulary(tokenizer)
    assert CodeVocabulary(tokenizer) != CodeVocabulary(other)
    assert CodeVocabulary(tokenizer) != vocabularies[1]
    assert len({CodeVocabulary(tokenizer), CodeVocabulary(tokenizer)}) == 1
