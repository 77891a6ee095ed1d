"""Sequence-to-sequence objective: denoising, both causal LMs, generation, finetuning."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from codet5p_jax.models.codet5p import CodeT5p, logits_params
from codet5p_jax.models.flops import Trained, seq2seq_training_flops
from codet5p_jax.objectives.accumulation import microbatches, split_rng, sum_over_chunks
from codet5p_jax.objectives.losses import TokenLoss, chunked_token_cross_entropy
from codet5p_jax.objectives.mesh_axes import num_row_shards
from codet5p_jax.objectives.metrics import nonpadding_share
from codet5p_jax.objectives.objective import BatchShapes, check_features
from codet5p_jax.objectives.ranges import Range, check_ranges
from codet5p_jax.typing import Batch, Metrics, PyTree, WeightedMean

_RANGES = {
    "label_smoothing": Range(least=0, most=1),
    "z_loss": Range(least=0),
    "microbatches": Range(least=1, whole=True),
    "chunk_length": Range(least=1, whole=True, optional=True),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seq2SeqObjective:
    """Cross-entropy of the decoder's targets given the encoder's inputs.

    The stream decides what it means: spans to restore, the rest of a file, or, when the encoder
    sees `[CLM]` alone, a whole file as in a decoder-only language model (paper section 3.1).

    Attributes:
        model: The network.
        label_smoothing: Share of probability spread over the vocabulary.
        z_loss: Weight of the squared log-normalizer.
        chunk_length: Target positions whose logits exist at once; None means all.
        microbatches: Parts that a batch is computed in, one after the other; exact, and the
            memory is that of one part.
    """

    model: CodeT5p
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    chunk_length: int | None = None
    microbatches: int = 1

    @property
    def required_features(self) -> tuple[str, ...]:
        """Names that a batch must have."""
        return (
            "encoder_input_tokens",
            "decoder_input_tokens",
            "decoder_target_tokens",
            "decoder_loss_weights",
        )

    def __post_init__(self) -> None:
        """Raises ValueError for values outside their range, naming the macro."""
        check_ranges(self, _RANGES)

    def check_shapes(self, batch_shapes: BatchShapes) -> None:
        """Raises ValueError for batches that lack a feature."""
        check_features(self, batch_shapes)

    def init_params(self, rng: jax.Array) -> PyTree:
        """Returns nothing: the model's parameters are all it trains."""
        return {}

    def init(self, rng: jax.Array, params: PyTree) -> PyTree:
        """Returns an empty state."""
        return {}

    def loss(
        self, params: PyTree, state: PyTree, batch: Batch, rng: jax.Array, *, train: bool
    ) -> tuple[WeightedMean, Metrics, PyTree]:
        """Returns (mean nats per target token, metrics, state).

        Args:
            params: Parameters of the model.
            state: Empty.
            batch: encoder_input_tokens [batch, inputs], decoder_input_tokens,
                decoder_target_tokens and decoder_loss_weights [batch, targets]; packed batches
                also encoder_segment_ids and decoder_segment_ids.
            rng: Source of dropout.
            train: Whether dropout is on.
        """
        result = self._token_loss(params, batch, rng, train)
        metrics = {
            "cross_entropy": result.cross_entropy,
            "accuracy": result.accuracy,
            "nonpadding_tokens": nonpadding_share(
                batch["encoder_input_tokens"],
                batch["decoder_target_tokens"],
                pad_id=self.model.config.pad_id,
            ),
        }
        return result.loss, metrics, state

    def flops(self, batch_shapes: BatchShapes, trained: Trained = Trained.ALL) -> float | None:
        """Returns the FLOPs of a training step on a batch of these shapes (models/flops.py)."""
        rows, inputs = batch_shapes["encoder_input_tokens"]
        flops = seq2seq_training_flops(
            self.model.config,
            rows=rows,
            inputs=inputs,
            targets=batch_shapes["decoder_input_tokens"][1],
            trained=trained,
        )
        return float(flops)

    def _token_loss(self, params: PyTree, batch: Batch, rng: jax.Array, train: bool) -> TokenLoss:
        if self.microbatches == 1 and num_row_shards() == 1:
            return self._loss_of_rows(params, batch, rng, train)

        def loss(params: PyTree, _: PyTree, data: Any) -> tuple[Any, TokenLoss]:
            part, rng = data
            return self._loss_of_rows(params, part, rng, train).total_and_sums()

        parts = microbatches(dict(batch), self.microbatches)
        rngs = split_rng(rng, self.microbatches)
        total, sums = sum_over_chunks(
            [loss], params, {}, (parts, rngs), wire_dtype=self.model.config.dtype
        )
        return sums.with_total(total)

    def _loss_of_rows(self, params: PyTree, batch: Batch, rng: jax.Array, train: bool) -> TokenLoss:
        hidden: Any = self.model.apply(
            {"params": params},
            batch["encoder_input_tokens"],
            batch["decoder_input_tokens"],
            batch.get("encoder_segment_ids"),
            batch.get("decoder_segment_ids"),
            train=train,
            rngs={"dropout": rng} if train else {},
            method=_decoder_output,
        )
        return target_loss(
            self.model,
            params,
            hidden,
            batch["decoder_target_tokens"],
            batch["decoder_loss_weights"].astype(jnp.float32),
            chunk_length=self.chunk_length,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
        )


def target_loss(
    model: CodeT5p,
    params: PyTree,
    hidden: Float[Array, "batch targets embed"],
    targets: Int[Array, "batch targets"],
    weights: Float[Array, "batch targets"],
    **options: Any,
) -> TokenLoss:
    """Returns the cross-entropy of `targets` given the decoder's output.

    Args:
        model: The network, for its logits.
        params: Its parameters.
        hidden: Output of the decoder.
        targets: Token ids.
        weights: 0 leaves a target out.
        **options: See `chunked_token_cross_entropy`.
    """

    def logits(params: PyTree, chunk: Float[Array, "batch chunk embed"]) -> Any:
        return model.apply({"params": params}, chunk, method="logits")

    return chunked_token_cross_entropy(
        logits,
        # Whole before the first chunk, where it lies in parts.
        nn.unbox(logits_params(model.config, params)),
        hidden,
        targets,
        weights,
        vocab_size=model.config.vocab_size,
        **options,
    )


def _decoder_output(
    model, encoder_tokens, decoder_tokens, encoder_segments, decoder_segments, *, train
):
    encoded = model.encode(encoder_tokens, encoder_segments, train=train)
    return model.decode(
        encoded, encoder_tokens, decoder_tokens, encoder_segments, decoder_segments, train=train
    )
