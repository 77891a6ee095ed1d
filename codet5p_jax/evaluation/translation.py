"""Loss of writing code from text and text from code, on held-out pairs.

The encoder reads one side, the decoder starts with `[CDEC]` or `[TDEC]` and writes the other. The
task token, which is given, does not count; `</s>` does.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from codet5p_jax.evaluation.losses import HostBatch, TrainedModel, model_loss
from codet5p_jax.evaluation.retrieval_quality import TokenizedPairs

BATCH_SIZE = 50


class _Ids(NamedTuple):
    pad: int
    start: int


def translation_rows(
    trained: TrainedModel, pairs: TokenizedPairs, *, text_id: int, code_id: int
) -> list[dict[str, Any]]:
    """Returns the loss of both directions, in nats per target token.

    Args:
        trained: The model.
        pairs: The held-out pairs.
        text_id: Id of `[TDEC]`.
        code_id: Id of `[CDEC]`.
    """
    texts, codes = pairs.text_tokens, pairs.code_tokens
    ids = _Ids(trained.model.config.pad_id, trained.model.config.start_id)
    directions = {
        "text_to_code": (texts, codes, code_id),
        "code_to_text": (codes, texts, text_id),
    }
    return [
        {
            "direction": name,
            "tokens": int(np.sum(targets[:, 1:] != ids.pad)),
            "loss": model_loss(trained, list(_batches(sources, targets, first, ids))),
        }
        for name, (sources, targets, first) in directions.items()
    ]


def _batches(
    sources: Int[np.ndarray, "pairs inputs"],
    targets: Int[np.ndarray, "pairs targets"],
    first: int,
    ids: _Ids,
) -> Iterator[HostBatch]:
    """Yields batches of equal size; rows to spare are padding and weigh nothing."""
    for start in range(0, len(sources), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        spare = ((0, BATCH_SIZE - len(sources[rows])), (0, 0))
        labels = np.pad(targets[rows], spare, constant_values=ids.pad)
        weights = (labels != ids.pad).astype(np.int32)
        weights[:, 0] = 0
        labels[:, 0] = first
        yield {
            "encoder_input_tokens": np.pad(sources[rows], spare, constant_values=ids.pad),
            "decoder_input_tokens": np.insert(labels[:, :-1], 0, ids.start, axis=1),
            "decoder_target_tokens": labels,
            "decoder_loss_weights": weights,
        }
