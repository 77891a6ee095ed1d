"""Norm, linear and feed-forward layers, with logical axis names for partitioning."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from codet5p_jax.kernels.dropping import drop

RESIDUAL_AXES = ("batch", "length", "activation_embed")  # logical axes of the residual stream


class Linear(nn.Module):
    """A linear layer, its kernel [in, features] drawn from normal(stddev).

    Attributes:
        features: Width of the output.
        axes: Logical axes of the kernel; None is never split.
        stddev: Standard deviation of the initial kernel.
        use_bias: Whether a bias [features], 0 at first, is added; T5 has none.
        dtype: Dtype of the computation; parameters stay in float32.
    """

    features: int
    axes: tuple[str | None, str]
    stddev: float
    use_bias: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*leading in"]) -> Float[Array, "*leading out"]:
        """Returns ``x kernel``, plus the bias."""
        init = nn.with_logical_partitioning(nn.initializers.normal(self.stddev), self.axes)
        kernel = self.param("kernel", init, (x.shape[-1], self.features), jnp.float32)
        out = project(x.astype(self.dtype), kernel.astype(self.dtype))
        if not self.use_bias:
            return out
        init = nn.with_logical_partitioning(nn.initializers.zeros_init(), self.axes[1:])
        bias = self.param("bias", init, (self.features,), jnp.float32).astype(self.dtype)
        return out + jnp.broadcast_to(bias, out.shape)


@jax.custom_vjp
def project(
    x: Float[Array, "*leading in"], kernel: Float[Array, "in out"]
) -> Float[Array, "*leading out"]:
    """Returns ``x kernel``, with a gradient whose products are fast on CPU, too.

    There the leading axes are one axis to the products, without which XLA copies the output's
    gradient transposed (a seventh of a step), and the rows are copied transposed first: XLA's
    product of a transposed left side runs at half to nine tenths of the rate of a plain one.
    Elsewhere leading axes stay apart, so that what is masked along one of them, as in dropout, is
    part of the product's own loop; a mask of joined axes is written as large as what it masks.
    """
    return _project_forward(x, kernel)[0]


def _project_forward(x, kernel):
    out = jax.lax.platform_dependent(x, kernel, cpu=_product_of_rows, default=jnp.dot)
    return out, (x, kernel)


def _project_backward(residuals, d_out):
    x, kernel = residuals
    d_x = jax.lax.platform_dependent(d_out, kernel.T, cpu=_product_of_rows, default=jnp.dot)
    d_kernel = jax.lax.platform_dependent(
        x, d_out, cpu=_product_with_transposed_copy, default=_product_with_transposed
    )
    return d_x, d_kernel


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _product_of_rows(x, kernel):
    return jnp.dot(_rows(x), kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def _product_with_transposed_copy(x, d_out):
    # The first barrier keeps the copy from being made, and kept, as early as the forward pass.
    rows, d_out = jax.lax.optimization_barrier((_rows(x), _rows(d_out)))
    return jnp.dot(jax.lax.optimization_barrier(rows.T), d_out)


def _product_with_transposed(x, d_out):
    leading = tuple(range(x.ndim - 1))
    return jax.lax.dot_general(x, d_out, ((leading, leading), ((), ())))


project.defvjp(_project_forward, _project_backward)


def gelu_new(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns the tanh approximation of GELU, as in T5 v1.1 (HF: gelu_new)."""
    return jax.nn.gelu(x, approximate=True)


class RMSNorm(nn.Module):
    """Divides by the root mean square over `embed` and scales; no mean, no bias.

    Attributes:
        epsilon: Added to the mean square.
        dtype: Dtype of the result; the statistics are float32.
    """

    epsilon: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "... embed"]) -> Float[Array, "... embed"]:
        """Returns the normalised `x`."""
        init = nn.with_logical_partitioning(nn.initializers.ones_init(), ("embed",))
        scale = self.param("scale", init, (x.shape[-1],), jnp.float32)
        return rms_norm(x, scale, self.epsilon, self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def rms_norm(
    x: Float[Array, "... embed"], scale: Float[Array, "embed"], epsilon: float, dtype: DTypeLike
) -> Float[Array, "... embed"]:
    """Returns ``x / sqrt(mean(x**2) + epsilon) * scale``, computed in float32.

    Its own gradient keeps `x` and one number per row, where the plain one keeps four arrays of
    float32 as large as `x`.
    """
    return _rms_norm_forward(x, scale, epsilon, dtype)[0]


def _rms_norm_forward(x, scale, epsilon, dtype):
    h = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(h), axis=-1, keepdims=True) + epsilon)
    out = (h * inverse * jnp.broadcast_to(scale, h.shape)).astype(dtype)
    return out, (x, scale, inverse)


def _rms_norm_backward(epsilon, dtype, residuals, d_out):
    x, scale, inverse = residuals
    d_out = d_out.astype(jnp.float32)
    normed = x.astype(jnp.float32) * inverse
    d_scale = jnp.sum(d_out * normed, axis=tuple(range(x.ndim - 1)))
    d_normed = d_out * jnp.broadcast_to(scale, x.shape)
    along = jnp.mean(d_normed * normed, axis=-1, keepdims=True)
    return (inverse * (d_normed - along * normed)).astype(x.dtype), d_scale


rms_norm.defvjp(_rms_norm_forward, _rms_norm_backward)


class LayerNorm(nn.Module):
    """Subtracts the mean over `embed`, divides by the standard deviation, scales and shifts.

    Attributes:
        epsilon: Added to the variance.
        dtype: Dtype of the result; the statistics are float32.
    """

    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "... embed"]) -> Float[Array, "... embed"]:
        """Returns the normalised `x`."""
        ones = nn.with_logical_partitioning(nn.initializers.ones_init(), ("embed",))
        zeros = nn.with_logical_partitioning(nn.initializers.zeros_init(), ("embed",))
        scale = self.param("scale", ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", zeros, (x.shape[-1],), jnp.float32)
        return layer_norm(x, scale, bias, self.epsilon, self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def layer_norm(
    x: Float[Array, "... embed"],
    scale: Float[Array, "embed"],
    bias: Float[Array, "embed"],
    epsilon: float,
    dtype: DTypeLike,
) -> Float[Array, "... embed"]:
    """Returns ``(x - mean(x)) / sqrt(var(x) + epsilon) * scale + bias``, computed in float32.

    Its own gradient keeps `x` and two numbers per row (see `rms_norm`).
    """
    return _layer_norm_forward(x, scale, bias, epsilon, dtype)[0]


def _layer_norm_forward(x, scale, bias, epsilon, dtype):
    h = x.astype(jnp.float32)
    mean = jnp.mean(h, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(h - mean), axis=-1, keepdims=True) + epsilon)
    scale, bias = (each.astype(jnp.float32) for each in (scale, bias))
    normed = (h - mean) * inverse
    out = normed * jnp.broadcast_to(scale, h.shape) + jnp.broadcast_to(bias, h.shape)
    return out.astype(dtype), (x, scale, mean, inverse)


def _layer_norm_backward(epsilon, dtype, residuals, d_out):
    x, scale, mean, inverse = residuals
    d_out = d_out.astype(jnp.float32)
    normed = (x.astype(jnp.float32) - mean) * inverse
    rows = tuple(range(x.ndim - 1))
    d_scale, d_bias = jnp.sum(d_out * normed, axis=rows), jnp.sum(d_out, axis=rows)
    d_normed = d_out * jnp.broadcast_to(scale, x.shape)
    constant = jnp.mean(d_normed, axis=-1, keepdims=True)
    along = jnp.mean(d_normed * normed, axis=-1, keepdims=True)
    d_x = (inverse * (d_normed - constant - along * normed)).astype(x.dtype)
    return d_x, d_scale, d_bias


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


class FeedForward(nn.Module):
    """Feed-forward block: ``wo(dropout(f(wi(x))))``, or gated ``wo(dropout(f(wi_0 x) * wi_1 x))``.

    Attributes:
        mlp_dim: Width of the hidden layer.
        activation: The function f.
        gated: Whether f gates a second projection (T5 v1.1).
        dropout_rate: Probability that a hidden unit was dropped with, along all of `length`.
        use_bias: Whether the linear layers have biases.
        stddev: Standard deviation of the initial kernels; None: (width of the input)**-0.5.
        dtype: Dtype of the computation; parameters stay in float32.
    """

    mlp_dim: int
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    gated: bool = False
    dropout_rate: float = 0.0
    use_bias: bool = False
    stddev: float | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length embed"], keep: Bool[Array, "batch mlp"] | None = None
    ) -> Float[Array, "batch length embed"]:
        """Applies the block to every position of `x`.

        Args:
            x: Any.
            keep: Which hidden units stay; None: all.
        """
        embed_dim = x.shape[-1]
        linear = functools.partial(Linear, use_bias=self.use_bias, dtype=self.dtype)
        stddev = embed_dim**-0.5 if self.stddev is None else self.stddev
        names = ("wi_0", "wi_1") if self.gated else ("wi",)
        hidden = [
            linear(self.mlp_dim, ("embed", "mlp"), stddev=stddev, name=name)(x) for name in names
        ]
        stddev = self.mlp_dim**-0.5 if self.stddev is None else self.stddev
        out_of = linear(embed_dim, ("mlp", "embed"), stddev=stddev, name="wo")

        def activate_and_project(out_of: Linear, hidden: list[Array]) -> Array:
            h = self.activation(hidden[0])
            h = h * hidden[1] if self.gated else h
            h = nn.with_logical_constraint(h, ("batch", "length", "mlp"))
            return out_of(drop(h, None if keep is None else keep[:, None], self.dropout_rate))

        # What lies between the products is computed again rather than kept: of a gated GELU it
        # is seven arrays as wide as the hidden layer.
        return nn.remat(activate_and_project, prevent_cse=False)(out_of, hidden)
