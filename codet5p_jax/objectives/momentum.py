"""What contrastive learning carries between steps: a slow copy of the encoder, and queues."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from codet5p_jax.typing import Leaf, PyTree, WeightedMean

UNUSED_ID = -100  # pair id of queue entries not written yet, as in ALBEF


class Queue(struct.PyTreeNode):
    """The last K pairs: momentum features, pair ids and tokens, in a ring.

    Attributes:
        text_features: Unit norm, float32 [queue, dim]; random before the entry is first written.
        code_features: As `text_features`.
        pair_ids: int32 [queue]; `UNUSED_ID` before the entry is first written.
        text_tokens: int32 [queue, text], for matching negatives drawn from the queue.
        code_tokens: int32 [queue, code].
        pointer: int32 [], the entry that the next batch is written at.
    """

    text_features: Leaf
    code_features: Leaf
    pair_ids: Leaf
    text_tokens: Leaf
    code_tokens: Leaf
    pointer: Leaf

    @property
    def size(self) -> int:
        """Number of entries, written or not."""
        return self.pair_ids.shape[0]

    def is_unwritten(self, batch_ids: Int[Array, "batch"]) -> Bool[Array, "keys"]:
        """Returns which of the keys, the batch and then the queue, were never written."""
        written = jnp.zeros(batch_ids.shape, bool)
        return jnp.concatenate([written, self.pair_ids == UNUSED_ID])

    def age_and_share(self, steps: Int[Array, ""], batch: int) -> tuple[WeightedMean, WeightedMean]:
        """Returns the mean age in steps of the entries written, and their share of all.

        Each of the last steps wrote one batch; the newest is one step old.
        """
        slots = jnp.float32(self.size // batch)
        written = jnp.minimum(steps.astype(jnp.float32), slots)
        return WeightedMean(written * (written + 1) / 2, written), WeightedMean(written, slots)

    def push(
        self,
        *,
        text_features: Float[Array, "batch dim"],
        code_features: Float[Array, "batch dim"],
        pair_ids: Int[Array, "batch"],
        text_tokens: Int[Array, "batch text"],
        code_tokens: Int[Array, "batch code"],
    ) -> "Queue":
        """Returns the queue with a batch written over its oldest entries.

        The batch size must divide the queue size, so that a batch never wraps around.
        """
        if self.size == 0:
            return self
        batch = pair_ids.shape[0]
        row = jnp.arange(self.size) - self.pointer  # of the batch, for each entry
        is_written = (row >= 0) & (row < batch)

        def write(entries: Array, rows: Array) -> Array:
            # Entry by entry, not as an update of a slice: where entries and slices lie on several
            # devices, XLA would gather the whole queue on each of them.
            rows = nn.with_logical_constraint(rows, (None,) * rows.ndim)
            mask = is_written.reshape(-1, *[1] * (rows.ndim - 1))
            return jnp.where(mask, jnp.take(rows, row, axis=0, mode="clip"), entries)

        return Queue(
            text_features=write(self.text_features, text_features),
            code_features=write(self.code_features, code_features),
            pair_ids=write(self.pair_ids, pair_ids),
            text_tokens=write(self.text_tokens, text_tokens),
            code_tokens=write(self.code_tokens, code_tokens),
            pointer=(self.pointer + batch) % self.size,
        )


def empty_queue(
    rng: jax.Array, *, size: int, dim: int, text_length: int, code_length: int
) -> Queue:
    """Returns a queue of random unit features that belong to no pair (ALBEF's start).

    Its entries carry logical axis names, `queue` first: they are spread over the devices.
    """

    def entries(values: Array) -> Any:
        axes = ("queue", "projection" if values.dtype == jnp.float32 else "length")
        return nn.LogicallyPartitioned(values, axes[: values.ndim])

    def features(key: jax.Array) -> Float[Array, "queue dim"]:
        rows = jax.random.normal(key, (size, dim))
        return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)

    text_rng, code_rng = jax.random.split(rng)
    return Queue(
        text_features=entries(features(text_rng)),
        code_features=entries(features(code_rng)),
        pair_ids=entries(jnp.full((size,), UNUSED_ID, jnp.int32)),
        text_tokens=entries(jnp.zeros((size, text_length), jnp.int32)),
        code_tokens=entries(jnp.zeros((size, code_length), jnp.int32)),
        pointer=jnp.int32(0),
    )


def moving_average(average: PyTree, params: PyTree, momentum: float) -> PyTree:
    """Returns momentum * average + (1 - momentum) * params, leaf by leaf.

    Source: ALBEF (arXiv:2107.07651) section 3.2; CodeT5+ takes it over (section 3.2).
    """
    return jax.tree.map(lambda a, p: momentum * a + (1.0 - momentum) * p, average, params)
