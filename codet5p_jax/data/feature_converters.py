"""From task features to what a model reads, for whole batches at once.

A converter takes arrays [batch, length] per task feature, and `<feature>_segment_ids` and
`<feature>_positions` beside them when rows are packed: segments count from 1, 0 is padding. It
takes the ids of padding and of the decoder's start too, which depend on the tokenizer.
"""

from collections.abc import Callable, Mapping

import numpy as np

from codet5p_jax.data.sequences import CODET5_IDS, LOSS_WEIGHTS, SequenceIds

Arrays = dict[str, np.ndarray]
FeatureConverter = Callable[[Mapping[str, np.ndarray], SequenceIds], Arrays]


def seq2seq_features(rows: Mapping[str, np.ndarray], ids: SequenceIds = CODET5_IDS) -> Arrays:
    """Returns SeqIO's encoder-decoder features of `inputs` and `targets`.

    The decoder reads its targets one position late, beginning with the start id in every segment;
    its loss weights are 1 on targets, or what the task feature `loss_weights` says, and 0 on
    padding.
    """
    targets, segments = rows["targets"], rows.get("targets_segment_ids")
    is_token = targets != ids.pad_id if segments is None else segments != 0
    weights = is_token.astype(np.int32)
    features = {
        "encoder_input_tokens": rows["inputs"],
        "decoder_target_tokens": targets,
        "decoder_input_tokens": _shift_right(targets, ids.start_id),
        "decoder_loss_weights": weights * rows[LOSS_WEIGHTS] if LOSS_WEIGHTS in rows else weights,
    }
    if segments is not None:
        features["decoder_input_tokens"] = _started_anew(
            features["decoder_input_tokens"], is_token, rows["targets_positions"], ids
        )
    for side, feature in (("encoder", "inputs"), ("decoder", "targets")):
        for suffix in ("segment_ids", "positions"):
            if f"{feature}_{suffix}" in rows:
                features[f"{side}_{suffix}"] = rows[f"{feature}_{suffix}"]
    return features


def pair_features(rows: Mapping[str, np.ndarray], ids: SequenceIds = CODET5_IDS) -> Arrays:
    """Returns text_tokens, code_tokens, and pair_ids, which are -1 in rows of padding."""
    is_pair = rows["text"][:, 0] != ids.pad_id
    return {
        "text_tokens": rows["text"],
        "code_tokens": rows["code"],
        "pair_ids": np.where(is_pair, rows["pair_id"], -1).astype(np.int32),
    }


def _shift_right(tokens: np.ndarray, start_id: int) -> np.ndarray:
    shifted = np.full_like(tokens, start_id)
    shifted[:, 1:] = tokens[:, :-1]
    return shifted


def _started_anew(
    shifted: np.ndarray, is_token: np.ndarray, positions: np.ndarray, ids: SequenceIds
) -> np.ndarray:
    """Returns decoder inputs of which each segment begins with the start id."""
    started = np.where(positions == 0, ids.start_id, shifted)
    return np.where(is_token, started, ids.pad_id).astype(shifted.dtype)
