import numpy as np
import pytest

from codet5p_jax.data.feature_converters import pair_features, seq2seq_features
from codet5p_jax.data.sequences import SequenceIds

CODEGEN = SequenceIds(pad_id=99, start_id=50)


def test_the_decoder_reads_its_targets_one_position_late():
    features = seq2seq_features(
        {"inputs": np.array([[5, 6, 0]]), "targets": np.array([[1, 7, 2, 0]])}
    )
    assert features["encoder_input_tokens"].tolist() == [[5, 6, 0]]
    assert features["decoder_target_tokens"].tolist() == [[1, 7, 2, 0]]
    assert features["decoder_input_tokens"].tolist() == [[0, 1, 7, 2]]
    assert features["decoder_loss_weights"].tolist() == [[1, 1, 1, 0]]
    assert set(features) == {
        *("encoder_input_tokens", "decoder_input_tokens"),
        *("decoder_target_tokens", "decoder_loss_weights"),
    }


def test_every_packed_segment_starts_anew():
    rows = {
        "inputs": np.array([[5, 6, 0]]),
        "inputs_segment_ids": np.array([[1, 2, 0]]),
        "inputs_positions": np.array([[0, 0, 0]]),
        "targets": np.array([[1, 7, 2, 1, 8, 2]]),
        "targets_segment_ids": np.array([[1, 1, 1, 2, 2, 2]]),
        "targets_positions": np.array([[0, 1, 2, 0, 1, 2]]),
    }
    features = seq2seq_features(rows)
    assert features["decoder_input_tokens"].tolist() == [[0, 1, 7, 0, 1, 8]]
    assert features["decoder_segment_ids"] is rows["targets_segment_ids"]
    assert features["encoder_segment_ids"] is rows["inputs_segment_ids"]
    assert features["encoder_positions"] is rows["inputs_positions"]
    assert features["decoder_positions"] is rows["targets_positions"]


def test_segments_tell_padding_from_a_token_with_the_id_0():
    rows = {
        "inputs": np.array([[5]]),
        "inputs_segment_ids": np.array([[1]]),
        "targets": np.array([[1, 0, 2, 0]]),
        "targets_segment_ids": np.array([[1, 1, 1, 0]]),
        "targets_positions": np.array([[0, 1, 2, 0]]),
    }
    assert seq2seq_features(rows)["decoder_loss_weights"].tolist() == [[1, 1, 1, 0]]


def test_padding_and_the_decoders_start_are_those_of_the_tokenizer():
    rows = {"inputs": np.array([[0, 6, 99]]), "targets": np.array([[7, 0, 50, 99, 99]])}
    features = seq2seq_features(rows, CODEGEN)
    assert features["decoder_input_tokens"][:, :3].tolist() == [[50, 7, 0]]
    assert features["decoder_loss_weights"].tolist() == [[1, 1, 1, 0, 0]]


def test_packed_padding_stays_padding_for_the_decoder():
    rows = {
        "inputs": np.array([[0, 6, 99]]),
        "inputs_segment_ids": np.array([[1, 2, 0]]),
        "inputs_positions": np.array([[0, 0, 0]]),
        "targets": np.array([[0, 50, 8, 50, 99]]),
        "targets_segment_ids": np.array([[1, 1, 2, 2, 0]]),
        "targets_positions": np.array([[0, 1, 0, 1, 0]]),
    }
    features = seq2seq_features(rows, CODEGEN)
    assert features["decoder_input_tokens"].tolist() == [[50, 0, 50, 8, 99]]
    assert features["decoder_loss_weights"].tolist() == [[1, 1, 1, 1, 0]]


def test_loss_weights_of_a_task_leave_targets_out_but_never_give_padding_a_loss():
    rows = {
        "inputs": np.array([[5]]),
        "targets": np.array([[1, 7, 2, 0]]),
        "loss_weights": np.array([[0, 1, 1, 1]]),
    }
    assert seq2seq_features(rows)["decoder_loss_weights"].tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize(("ids", "padding"), [(SequenceIds(), 0), (CODEGEN, 99)])
def test_rows_of_padding_are_no_pairs(ids, padding):
    features = pair_features(
        {
            "text": np.array([[1, 2], [padding] * 2]),
            "code": np.array([[1, 2], [padding] * 2]),
            "pair_id": np.array([9, 0], np.int32),
        },
        ids,
    )
    assert features["pair_ids"].tolist() == [9, -1] and features["pair_ids"].dtype == np.int32
    assert set(features) == {"text_tokens", "code_tokens", "pair_ids"}
