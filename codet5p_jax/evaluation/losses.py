"""Loss of models on held-out streams, beside the loss of a model that knows frequencies only."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from codet5p_jax.evaluation.metrics import token_cross_entropy, unigram_cross_entropy
from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.typing import PyTree, WeightedMean

HostBatch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model with its parameters.

    Attributes:
        model: The model.
        params: Its parameters, without the "params" level.
    """

    model: CodeT5p
    params: PyTree


def stream_losses(
    objective: str,
    batches: Sequence[HostBatch],
    *,
    models: Mapping[str, TrainedModel],
    unigram: Float[np.ndarray, " vocab"],
) -> dict[str, Any]:
    """Returns one row of the table of losses, in nats per target token.

    Args:
        objective: Name of the stream, such as "unimodal_span_denoising".
        batches: Held-out batches of encoder_input_tokens, decoder_input_tokens,
            decoder_target_tokens and decoder_loss_weights; the encoder of decoder-only batches
            reads `[CLM]` alone.
        models: Models by column name.
        unigram: Log probability of every id, estimated on training targets.

    Raises:
        ValueError: If the batches hold no target token.
    """
    sums = [_unigram(unigram, batch) for batch in batches]
    tokens = sum(count for _, count in sums)
    if not tokens:
        raise ValueError(
            f"The held-out split gave no target token for {objective}: its examples may all be "
            "too short for the lengths of this model. Lower the lengths or build a larger corpus."
        )
    losses = {name: model_loss(trained, batches) for name, trained in models.items()}
    return {
        "objective": objective,
        "tokens": int(tokens),
        "unigram": sum(nats for nats, _ in sums) / tokens,
        **losses,
    }


def model_loss(trained: TrainedModel, batches: Sequence[HostBatch]) -> float:
    """Returns the mean loss of a model over all target tokens of `batches`."""
    parts = [_batch_loss(trained.model, trained.params, dict(batch)) for batch in batches]
    total = sum(float(part.total) for part in parts)
    return total / sum(float(part.weight) for part in parts)


@functools.partial(jax.jit, static_argnames="model")
def _batch_loss(model: CodeT5p, params: PyTree, batch: dict[str, jax.Array]) -> WeightedMean:
    logits: Any = model.apply(
        {"params": params},
        batch["encoder_input_tokens"],
        batch["decoder_input_tokens"],
        batch.get("encoder_segment_ids"),
        batch.get("decoder_segment_ids"),
    )
    return token_cross_entropy(
        logits, batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    )


def _unigram(log_probabilities: np.ndarray, batch: HostBatch) -> tuple[float, float]:
    return unigram_cross_entropy(
        log_probabilities, batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    )
