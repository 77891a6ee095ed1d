"""The token embedding, shared by encoder, decoder and, where tied, the logits."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int


class TokenEmbedder(nn.Module):
    """One row per token id.

    Attributes:
        rows: Rows of the table, padding rows included.
        embed_dim: Width of a row.
        stddev: Standard deviation of the initial table.
    """

    rows: int
    embed_dim: int
    stddev: float = 1.0

    def setup(self):
        """Creates the parts."""
        init = nn.with_logical_partitioning(nn.initializers.normal(self.stddev), ("vocab", "embed"))
        self.embedding = self.param("embedding", init, (self.rows, self.embed_dim), jnp.float32)

    def __call__(
        self, tokens: Int[Array | np.ndarray, "batch length"]
    ) -> Float[Array, "batch length embed"]:
        """Returns the rows of `tokens`, float32; ids beyond the table take its last row."""
        x = jnp.take(self.embedding, jnp.asarray(tokens), axis=0, mode="clip")
        return nn.with_logical_constraint(x, ("batch", "length", "activation_embed"))

    def attend(
        self, hidden: Float[Array, "batch length embed"]
    ) -> Float[Array, "batch length vocab"]:
        """Returns the products of `hidden` with every row, float32."""
        table = self.embedding.astype(hidden.dtype)
        return jnp.einsum("ble,ve->blv", hidden, table, preferred_element_type=jnp.float32)
