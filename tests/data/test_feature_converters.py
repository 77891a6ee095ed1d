import numpy as np

from codet5p_jax.data.feature_converters import pair_features, seq2seq_features


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


def test_rows_of_padding_are_no_pairs():
    features = pair_features(
        {
            "text": np.array([[1, 2], [0, 0]]),
            "code": np.array([[1, 2], [0, 0]]),
            "pair_id": np.array([9, 0], np.int32),
        }
    )
    assert features["pair_ids"].tolist() == [9, -1] and features["pair_ids"].dtype == np.int32
    assert set(features) == {"text_tokens", "code_tokens", "pair_ids"}
