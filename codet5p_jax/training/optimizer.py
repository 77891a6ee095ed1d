"""AdamW as CodeT5+ uses it: warm-up, linear decay, clipping, decay of matrices only."""

import functools
from collections.abc import Mapping
from types import MappingProxyType

import jax
import optax

from codet5p_jax.typing import PyTree

NO_DECAY = ("norm", "bias", "temperature")  # parts of a parameter's path
ONE_RATE: Mapping[str, float] = MappingProxyType({})


def linear_schedule(
    *, peak_learning_rate: float, warmup_steps: int, total_steps: int
) -> optax.Schedule:
    """Returns step -> learning rate: linear from 0 to the peak, then linear to 0.

    Source: paper section 4.2 (linear decay, peak 2e-4); its warm-up is not published.

    Raises:
        ValueError: When the warm-up is longer than the run.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"linear_schedule.warmup_steps is {warmup_steps}, but the run has {total_steps} steps; "
            "set it to less, for example a twentieth."
        )
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, peak_learning_rate, warmup_steps),
            optax.linear_schedule(peak_learning_rate, 0.0, total_steps - warmup_steps),
        ],
        [warmup_steps],
    )


def decayed(params: PyTree) -> PyTree:
    """Returns True at every parameter that weight decay applies to.

    Norm scales, biases, relative position tables and the temperature are left alone.
    """

    def applies(path: tuple[jax.tree_util.KeyEntry, ...], _: jax.Array) -> bool:
        name = jax.tree_util.keystr(path)
        return not any(part in name for part in NO_DECAY)

    return jax.tree_util.tree_map_with_path(applies, params)


def adamw(
    learning_rate: optax.Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    max_gradient_norm: float | None = 1.0,
    learning_rate_multipliers: Mapping[str, float] = ONE_RATE,
) -> optax.GradientTransformation:
    """Returns AdamW behind a clip of the global gradient norm.

    Args:
        learning_rate: Step -> learning rate.
        b1: Decay of the first moment.
        b2: Decay of the second moment.
        eps: Added to the root of the second moment.
        weight_decay: Share of a matrix subtracted per unit of learning rate (paper: 0.1).
        max_gradient_norm: Clip; None leaves gradients alone.
        learning_rate_multipliers: Part of a parameter's path -> factor on its learning rate.
            AdamW moves every weight by about the learning rate, whatever its size; T5's
            embedding starts some ten times larger than its kernels.
    """
    adam = optax.adamw(
        learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=decayed
    )
    parts = [] if max_gradient_norm is None else [optax.clip_by_global_norm(max_gradient_norm)]
    parts.append(adam)
    if learning_rate_multipliers:
        parts.append(scale_modules(learning_rate_multipliers))
    return optax.chain(*parts) if len(parts) > 1 else adam


def scale_modules(multipliers: Mapping[str, float]) -> optax.GradientTransformation:
    """Returns a transformation that multiplies the updates of some modules.

    Args:
        multipliers: Part of a parameter's path, such as "token_embedder" -> factor. Where several
            parts occur in a path, their factors multiply.

    Raises:
        ValueError: (on init) A part occurs in no parameter's path.
    """
    scales = [
        optax.masked(optax.scale(factor), functools.partial(_holding, part=part))
        for part, factor in multipliers.items()
    ]
    return optax.chain(*scales)


def _holding(params: PyTree, *, part: str) -> PyTree:
    """Returns True at every parameter whose path holds `part`.

    Raises:
        ValueError: No path does.
    """

    def path(keys: tuple[jax.tree_util.KeyEntry, ...], _: jax.Array) -> str:
        return jax.tree_util.keystr(keys, simple=True, separator="/")

    paths = jax.tree_util.tree_map_with_path(path, params)
    names = jax.tree.leaves(paths)
    if not any(part in name for name in names):
        raise ValueError(
            f"learning_rate_multipliers names {part!r}, which occurs in no parameter's path; the "
            f"model has {', '.join(sorted({name.split('/')[0] for name in names}))}. Name one of "
            "these, or a part of a path."
        )
    return jax.tree.map(lambda name: part in name, paths)
