"""AdamW as CodeT5+ uses it: warm-up, linear decay, clipping, decay of matrices only."""

import jax
import optax

from codet5p_jax.typing import PyTree

NO_DECAY = ("norm", "bias", "temperature")  # parts of a parameter's path


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
) -> optax.GradientTransformation:
    """Returns AdamW behind a clip of the global gradient norm.

    Args:
        learning_rate: Step -> learning rate.
        b1: Decay of the first moment.
        b2: Decay of the second moment.
        eps: Added to the root of the second moment.
        weight_decay: Share of a matrix subtracted per unit of learning rate (paper: 0.1).
        max_gradient_norm: Clip; None leaves gradients alone.
    """
    adam = optax.adamw(
        learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=decayed
    )
    if max_gradient_norm is None:
        return adam
    return optax.chain(optax.clip_by_global_norm(max_gradient_norm), adam)
