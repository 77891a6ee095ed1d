"""From task features to what a model reads, for whole batches at once.

A converter takes arrays [batch, length] per task feature, and `<feature>_segment_ids` and
`<feature>_positions` beside them when rows are packed: segments count from 1, 0 is padding.
"""

from collections.abc import Callable, Mapping

import numpy as np

Arrays = dict[str, np.ndarray]
FeatureConverter = Callable[[Mapping[str, np.ndarray]], Arrays]


def seq2seq_features(rows: Mapping[str, np.ndarray]) -> Arrays:
    """Returns SeqIO's encoder-decoder features of `inputs` and `targets`.

    The decoder reads its targets one position late, beginning with 0 in every segment; its loss
    weights are 1 on targets and 0 on padding, which segments tell from tokens with the id 0.
    """
    targets = rows["targets"]
    features = {
        "encoder_input_tokens": rows["inputs"],
        "decoder_target_tokens": targets,
        "decoder_input_tokens": _shift_right(targets, rows.get("targets_positions")),
        "decoder_loss_weights": (rows.get("targets_segment_ids", targets) != 0).astype(np.int32),
    }
    for side, feature in (("encoder", "inputs"), ("decoder", "targets")):
        for suffix in ("segment_ids", "positions"):
            if f"{feature}_{suffix}" in rows:
                features[f"{side}_{suffix}"] = rows[f"{feature}_{suffix}"]
    return features


def pair_features(rows: Mapping[str, np.ndarray]) -> Arrays:
    """Returns text_tokens, code_tokens, and pair_ids, which are -1 in rows of padding."""
    is_pair = rows["text"][:, 0] != 0
    return {
        "text_tokens": rows["text"],
        "code_tokens": rows["code"],
        "pair_ids": np.where(is_pair, rows["pair_id"], -1).astype(np.int32),
    }


def _shift_right(tokens: np.ndarray, positions: np.ndarray | None) -> np.ndarray:
    shifted = np.zeros_like(tokens)
    shifted[:, 1:] = tokens[:, :-1]
    return shifted if positions is None else np.where(positions == 0, 0, shifted)
