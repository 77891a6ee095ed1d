"""Norm, linear and feed-forward layers of T5, with logical axis names for partitioning."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class Linear(nn.Module):
    """A linear layer without bias, its kernel [in, features] drawn from normal(stddev).

    The leading axes are one axis to the product: XLA then needs no transposed copy of the
    output's gradient (a seventh of a step on CPU).

    Attributes:
        features: Width of the output.
        axes: Logical axes of the kernel.
        stddev: Standard deviation of the initial kernel.
        dtype: Dtype of the computation; the kernel stays in float32.
    """

    features: int
    axes: tuple[str, str]
    stddev: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*leading in"]) -> Float[Array, "*leading out"]:
        """Returns ``x kernel``."""
        init = nn.with_logical_partitioning(nn.initializers.normal(self.stddev), self.axes)
        kernel = self.param("kernel", init, (x.shape[-1], self.features), jnp.float32)
        rows = x.reshape(-1, x.shape[-1]).astype(self.dtype)
        return project(rows, kernel.astype(self.dtype)).reshape(*x.shape[:-1], self.features)


@jax.custom_vjp
def project(
    rows: Float[Array, "rows in"], kernel: Float[Array, "in out"]
) -> Float[Array, "rows out"]:
    """Returns ``rows kernel``, with a gradient whose products are fast on CPU, too.

    XLA's product of a transposed left side runs at half to nine tenths of the rate of a plain
    one there; copying the rows transposed first costs little. Other devices need no copy.
    """
    return jnp.dot(rows, kernel)


def _project_forward(rows, kernel):
    return jnp.dot(rows, kernel), (rows, kernel)


def _project_backward(residuals, d_out):
    rows, kernel = residuals
    d_kernel = jax.lax.platform_dependent(
        rows, d_out, cpu=_product_with_transposed_copy, default=_product_with_transposed
    )
    return jnp.dot(d_out, kernel.T), d_kernel


def _product_with_transposed_copy(rows, d_out):
    # The first barrier keeps the copy from being made, and kept, as early as the forward pass.
    rows, d_out = jax.lax.optimization_barrier((rows, d_out))
    return jnp.dot(jax.lax.optimization_barrier(rows.T), d_out)


def _product_with_transposed(rows, d_out):
    return jnp.dot(rows.T, d_out)


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
        h = x.astype(jnp.float32)
        h = h * jax.lax.rsqrt(jnp.mean(jnp.square(h), axis=-1, keepdims=True) + self.epsilon)
        return (h * jnp.broadcast_to(scale, h.shape)).astype(self.dtype)


class FeedForward(nn.Module):
    """Feed-forward block: ``wo(dropout(f(wi(x))))``, or gated ``wo(dropout(f(wi_0 x) * wi_1 x))``.

    Attributes:
        mlp_dim: Width of the hidden layer.
        activation: The function f.
        gated: Whether f gates a second projection (T5 v1.1).
        dropout_rate: Probability of dropping a hidden unit, shared along `length`.
        dtype: Dtype of the computation; parameters stay in float32.
    """

    mlp_dim: int
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    gated: bool = False
    dropout_rate: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length embed"], *, train: bool
    ) -> Float[Array, "batch length embed"]:
        """Applies the block to every position of `x`."""
        embed_dim = x.shape[-1]
        into = partial(
            Linear, self.mlp_dim, ("embed", "mlp"), stddev=embed_dim**-0.5, dtype=self.dtype
        )
        if self.gated:
            h = self.activation(into(name="wi_0")(x)) * into(name="wi_1")(x)
        else:
            h = self.activation(into(name="wi")(x))
        h = nn.with_logical_constraint(h, ("batch", "length", "mlp"))
        h = nn.Dropout(self.dropout_rate, broadcast_dims=(-2,))(h, deterministic=not train)
        out_of = partial(Linear, stddev=self.mlp_dim**-0.5, dtype=self.dtype, name="wo")
        return out_of(embed_dim, ("mlp", "embed"))(h)
