import pytest
import tensorflow as tf

from codet5p_jax.data.bimodal import EnclosePairs, code_to_text, text_to_code


def _block():
    ragged = tf.ragged.constant
    return {
        "text": ragged([[11, 12], [13]], tf.int32, row_splits_dtype=tf.int32),
        "code": ragged([[21], [22, 23, 24, 25]], tf.int32, row_splits_dtype=tf.int32),
        "pair_id": tf.constant([7, 8]),
    }


def test_both_sides_are_enclosed_and_cut_to_fit(tokenizer):
    pairs = EnclosePairs(tokenizer=tokenizer)(
        _block(), seed=tf.constant([0, 0]), sequence_length={"text": 4, "code": 5}
    )
    assert pairs["text"].to_list() == [[1, 11, 12, 2], [1, 13, 2]]
    assert pairs["code"].to_list() == [[1, 21, 2], [1, 22, 23, 24, 2]]  # </s> stays last
    assert pairs["pair_id"].numpy().tolist() == [7, 8]


def test_sides_can_be_named_for_generation(tokenizer):
    names = (("code", "inputs"), ("text", "targets"))
    pairs = EnclosePairs(tokenizer=tokenizer, names=names)(
        _block(), seed=tf.constant([0, 0]), sequence_length={"inputs": 9, "targets": 9}
    )
    assert pairs["inputs"].to_list()[0] == [1, 21, 2]


def test_what_is_written_begins_with_its_task_token(tokenizer):
    lengths = {"inputs": 9, "targets": 4}
    code, text = (
        make(tokenizer)(_block(), seed=tf.constant([0, 0]), sequence_length=lengths)
        for make in (text_to_code, code_to_text)
    )
    cdec, tdec = tokenizer.cdec_id, tokenizer.tdec_id
    assert set(code) == set(text) == {"inputs", "targets"}
    assert code["inputs"].to_list() == [[1, 11, 12, 2], [1, 13, 2]]
    assert code["targets"].to_list() == [[cdec, 21, 2], [cdec, 22, 23, 2]]
    assert text["inputs"].to_list() == [[1, 21, 2], [1, 22, 23, 24, 25, 2]]
    assert text["targets"].to_list() == [[tdec, 11, 12, 2], [tdec, 13, 2]]


def test_a_length_without_room_is_refused(tokenizer):
    with pytest.raises(ValueError, match="give 'code' 2 tokens"):
        EnclosePairs(tokenizer=tokenizer)(
            _block(), seed=tf.constant([0, 0]), sequence_length={"text": 4, "code": 2}
        )
