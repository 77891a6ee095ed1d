"""Dropout whose choices belong to rows of the global batch, wherever a row is computed.

All masks of a stack are drawn at once, by one generator: one in each layer, and in each place that
reads its mask, is half of what a compiler has to do, and what it makes of the keys runs on a
TPU's scalar unit.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def keep_masks(
    rng: jax.Array, rate: float, rows: int, shapes: Mapping[str, Sequence[int]]
) -> dict[str, Bool[Array, "batch ..."]]:
    """Returns name -> [batch, *shape]: which entries stay, each with probability ``1 - rate``.

    A row's masks depend on the rng and on the row's index in the global batch alone. So a step
    computes the same on any mesh, also where each device draws for its own rows (jax.shard_map).

    Args:
        rng: One key for all rows.
        rate: Probability of dropping an entry.
        rows: Number of rows at hand.
        shapes: Name -> shape of the mask of one row.
    """
    row_keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(rng, global_rows(rows))
    sizes = [math.prod(shape) for shape in shapes.values()]
    drawn = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, (sum(sizes),)))(row_keys)
    # Drawn here, not again, with the whole generator, by each instruction that reads a mask.
    drawn = jax.lax.optimization_barrier(drawn)
    parts = jnp.split(drawn, list(itertools.accumulate(sizes))[:-1], axis=1)
    return {
        name: part.reshape(rows, *shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def global_rows(count: int) -> Int[Array, "batch"]:
    """Returns the indices in the global batch of the `count` rows at hand.

    Under jax.shard_map these are one device's rows, of all the mesh axes that it splits.
    """
    split = jax.sharding.get_abstract_mesh().manual_axes
    first = jax.lax.axis_index(split) * count if split else 0
    return first + jnp.arange(count, dtype=jnp.int32)
