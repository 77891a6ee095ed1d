"""AdamW as CodeT5+ uses it, and Adafactor: clipping, decay of matrices only."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from codet5p_jax.typing import PyTree

NO_DECAY = ("norm", "bias", "temperature")  # parts of a parameter's path


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
    return _clipped(max_gradient_norm, adam)


def adafactor(
    learning_rate: optax.Schedule,
    *,
    decay_exponent: float = 0.8,
    min_dim_size_to_factor: int = 128,
    clipping_threshold: float | None = 1.0,
    multiply_by_parameter_scale: bool = True,
    weight_decay: float = 0.0,
    max_gradient_norm: float | None = None,
) -> optax.GradientTransformation:
    """Returns Adafactor, whose second moment of a matrix is one row and one column, as T5's.

    Source: arXiv:1804.04235, algorithm 4, without a first moment; T5 pretrained with it.
    Scanned layers are one stacked parameter: each layer keeps a row and a column of its own, but
    `clipping_threshold` and `multiply_by_parameter_scale` read the root mean square of the stack.

    Args:
        learning_rate: Step -> learning rate; with `multiply_by_parameter_scale` relative to the
            size of each parameter, so that 0.01 is usual.
        decay_exponent: The second moment decays by 1 - step ** -decay_exponent.
        min_dim_size_to_factor: A parameter whose two longest axes are both this long is factored.
        clipping_threshold: Greatest root mean square of a parameter's update before the learning
            rate; None leaves it alone.
        multiply_by_parameter_scale: Whether an update is multiplied by its parameter's root mean
            square.
        weight_decay: Share of a matrix subtracted per unit of learning rate, as in `adamw`.
        max_gradient_norm: Clip of the global norm; None leaves gradients alone.
    """
    parts = [
        optax.scale_by_factored_rms(
            decay_rate=decay_exponent, min_dim_size_to_factor=min_dim_size_to_factor
        )
    ]
    if clipping_threshold is not None:
        parts.append(optax.clip_by_block_rms(clipping_threshold))
    if multiply_by_parameter_scale:
        parts.append(optax.stateless(_by_parameter_scale))
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, mask=decayed))
    parts.append(optax.scale_by_learning_rate(learning_rate))
    return _clipped(max_gradient_norm, optax.chain(*parts))


def _by_parameter_scale(updates: PyTree, params: PyTree) -> PyTree:
    """Returns updates times the root mean square of their parameter, or 1e-3 if that is less.

    `optax.scale_by_param_block_rms`, which reads a parameter twice, to be differentiable.
    """

    def scaled(update: jax.Array, param: jax.Array) -> jax.Array:
        return update * jnp.maximum(jnp.sqrt(jnp.mean(jnp.square(param))), 1e-3)

    return jax.tree.map(scaled, updates, params)


def init_state(optimizer: optax.GradientTransformation, params: PyTree) -> optax.OptState:
    """Returns the optimizer's first state, laid out as its parameters.

    An array of a parameter's shape, such as a moment, gets the parameter's logical axes. Another,
    such as a row of Adafactor's, is small and gets none: every device holds it.

    Args:
        optimizer: Any optax transformation.
        params: Trainable parameters, plain or in boxes that hold their logical axes.
    """

    def laid_out(leaf: jax.Array | optax.MaskedNode, param: jax.Array | nn.meta.AxisMetadata):
        if _is_masked(leaf) or not isinstance(param, nn.meta.AxisMetadata):
            return leaf
        return param.replace_boxed(leaf) if leaf.shape == nn.unbox(param).shape else leaf

    state = optimizer.init(nn.unbox(params))
    return optax.tree.map_params(optimizer, laid_out, state, params, is_leaf=_is_masked)


def _is_masked(leaf: Any) -> bool:
    return isinstance(leaf, optax.MaskedNode)


def _clipped(
    max_gradient_norm: float | None, optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
    if max_gradient_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(max_gradient_norm), optimizer)
