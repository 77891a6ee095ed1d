"""Passes through encoder and decoder that several losses read, in groups of rows if asked for."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.objectives.accumulation import map_over_chunks, split_rng, sum_over_chunks
from codet5p_jax.objectives.losses import TokenLoss, matching_loss
from codet5p_jax.objectives.matching import replace_first, shift_right
from codet5p_jax.objectives.mesh_axes import num_row_shards
from codet5p_jax.objectives.row_groups import RowGroups, group_rows
from codet5p_jax.objectives.seq2seq import target_loss
from codet5p_jax.typing import PyTree, WeightedMean


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedPasses:
    """The passes through the network that the losses of stage 2 share.

    Attributes:
        model: The network.
        params: Its parameters.
        train: Whether dropout is on.
        microbatches: Groups of rows that a pass is computed in, one after the other.
        num_lengths: Lengths that a group may be cut to.
        chunk_length: Target positions whose logits exist at once; None means all.
    """

    model: CodeT5p
    params: PyTree
    train: bool
    microbatches: int = 1
    num_lengths: int = 1
    chunk_length: int | None = None

    def encoded(
        self, tokens: Int[Array, "batch length"], rng: jax.Array
    ) -> Float[Array, "batch length embed"]:
        """Returns the encoder's output."""
        return self._for_each_group(self.params, tokens, rng, self._encode)

    def projected(self, encoded: Float[Array, "batch length embed"]) -> Float[Array, "batch dim"]:
        """Returns the features of encoded rows."""
        return self._apply(self.params, encoded, method="project")

    def momentum_features(
        self, momentum_params: PyTree, tokens: Int[Array, "batch length"]
    ) -> Float[Array, "batch dim"]:
        """Returns the features of rows by the momentum encoder, without dropout."""

        def embed(params: PyTree, tokens: Array, rng: jax.Array, length: int) -> Array:
            return self._apply(params, tokens[:, :length], method="embed")

        frozen = jax.lax.stop_gradient(momentum_params)
        return self._for_each_group(frozen, tokens, jax.random.key(0), embed)

    def matching(
        self,
        encoded: Float[Array, "rows text embed"],
        texts: Int[Array, "rows text"],
        codes: Int[Array, "rows code"],
        weights: Float[Array, "rows"],
        token: int,
        rng: jax.Array,
    ) -> tuple[WeightedMean, WeightedMean]:
        """Returns loss and accuracy of matching; the first of each three rows is a pair."""
        labels = (jnp.arange(weights.size) % 3 == 0).astype(jnp.int32)

        def loss(params: PyTree, encoded: Array, data: Any, length: int) -> TokenLoss:
            texts, codes, labels, weights, rng = data
            codes = replace_first(codes[:, :length], token)
            inputs = encoded, texts, codes
            logits = self._apply(params, *inputs, method="match_encoded", **self._dropout(rng))
            return matching_loss(logits, labels, weights)

        result = self._sum_over_groups(codes, encoded, (texts, codes, labels, weights), rng, loss)
        return result.loss, result.accuracy

    def generation(
        self,
        encoded: Float[Array, "rows inputs embed"],
        sources: Int[Array, "rows inputs"],
        targets: Int[Array, "rows length"],
        token: int,
        rng: jax.Array,
    ) -> TokenLoss:
        """Cross-entropy of one modality given the other; labels are the task token, x, `</s>`."""

        def loss(params: PyTree, encoded: Array, data: Any, length: int) -> TokenLoss:
            sources, targets, rng = data
            labels = replace_first(targets[:, :length], token)
            inputs = encoded, sources, shift_right(labels, first=self.model.config.start_id)
            hidden = self._apply(params, *inputs, method="decode", **self._dropout(rng))
            weights = (labels != self.model.config.pad_id).astype(jnp.float32)
            chunk_length = self.chunk_length
            return target_loss(
                self.model, params, hidden, labels, weights, chunk_length=chunk_length
            )

        return self._sum_over_groups(targets, encoded, (sources, targets), rng, loss)

    def _encode(self, params: PyTree, tokens: Array, rng: jax.Array, length: int) -> Array:
        short = self._apply(params, tokens[:, :length], method="encode", **self._dropout(rng))
        return jnp.pad(short, [(0, 0), (0, tokens.shape[1] - length), (0, 0)])

    @property
    def _is_one_pass(self) -> bool:
        """Whether all rows are computed at once, on one device."""
        return self.microbatches == 1 and num_row_shards() == 1

    def _groups(self, tokens: Int[Array, "rows length"]) -> RowGroups:
        return group_rows(
            tokens,
            count=self.microbatches,
            num_lengths=self.num_lengths,
            pad_id=self.model.config.pad_id,
        )

    def _for_each_group(
        self, params: PyTree, tokens: Array, rng: jax.Array, function: Callable[..., Array]
    ) -> Array:
        """Returns function(params, tokens, rng, length) of all rows, group by group."""
        if self._is_one_pass:
            return function(params, tokens, rng, tokens.shape[1])
        groups = self._groups(tokens)

        def of_length(length: int) -> Callable[[PyTree, Any], Array]:
            return lambda params, data: function(params, *data, length)

        functions = [of_length(length) for length in groups.lengths]
        data = groups.split(tokens), split_rng(rng, groups.count)
        wire_dtype = self.model.config.dtype
        mapped = map_over_chunks(
            functions, params, data, choice=groups.choice, wire_dtype=wire_dtype
        )
        return groups.join(mapped)

    def _sum_over_groups(
        self,
        targets: Int[Array, "rows length"],
        encoded: Float[Array, "rows inputs embed"],
        data: tuple[Array, ...],
        rng: jax.Array,
        loss: Callable[..., TokenLoss],
    ) -> TokenLoss:
        """Returns loss(params, encoded, (*data, rng), length) of all rows, group by group."""
        if self._is_one_pass:
            return loss(self.params, encoded, (*data, rng), targets.shape[1])
        groups = self._groups(targets)

        def of_length(length: int) -> Callable[..., tuple[Any, TokenLoss]]:
            return lambda *inputs: loss(*inputs, length).total_and_sums()

        losses = [of_length(length) for length in groups.lengths]
        parts = (*groups.split(data), split_rng(rng, groups.count))
        total, sums = sum_over_chunks(
            losses,
            self.params,
            groups.split(encoded),
            parts,
            choice=groups.choice,
            wire_dtype=self.model.config.dtype,
        )
        return sums.with_total(total)

    def _dropout(self, rng: jax.Array) -> dict[str, Any]:
        return {"train": self.train, "rngs": {"dropout": rng} if self.train else {}}

    def _apply(self, params: PyTree, *inputs: Array, **options: Any) -> Any:
        return self.model.apply({"params": params}, *inputs, **options)
