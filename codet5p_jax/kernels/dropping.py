"""Dropping entries by a mask that is drawn elsewhere."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def drop(
    x: Float[Array, "batch ..."], keep: Bool[Array, "batch ..."] | None, rate: float
) -> Float[Array, "batch ..."]:
    """Returns `x` where `keep`, scaled by ``1 / (1 - rate)``, and 0 elsewhere.

    Args:
        x: Any.
        keep: As large as `x`, or 1 along axes that share a choice; None keeps all, unscaled.
        rate: Probability of dropping an entry.
    """
    return x if keep is None else _scale_kept(x, keep, 1 / (1 - rate))


def drop_keys(
    value: Float[Array, "batch keys heads head_dim"],
    keep: Bool[Array, "batch heads keys"] | None,
    rate: float,
) -> Float[Array, "batch keys heads head_dim"]:
    """Returns the values of kept keys, scaled as by `drop`, and 0 for dropped ones, by head.

    Args:
        value: Values of keys.
        keep: Keys that stay; None keeps all, unscaled.
        rate: Probability of dropping a key.
    """
    return drop(value, None if keep is None else jnp.swapaxes(keep, 1, 2)[..., None], rate)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _scale_kept(x, keep, factor):
    """Its own gradient keeps the mask as it is drawn, instead of as large as `x`."""
    return jnp.where(keep, x * factor, jnp.zeros_like(x))


def _scale_kept_forward(x, keep, factor):
    return _scale_kept(x, keep, factor), keep


def _scale_kept_backward(factor, keep, d_out):
    return _scale_kept(d_out, keep, factor), None


_scale_kept.defvjp(_scale_kept_forward, _scale_kept_backward)
