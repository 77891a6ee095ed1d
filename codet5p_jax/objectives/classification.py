"""Classification of a sequence, or of a pair of sequences, from the encoder's embedding."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.flops import TRAINED, Trained, encoder_flops
from codet5p_jax.objectives.losses import token_cross_entropy
from codet5p_jax.objectives.metrics import nonpadding_share
from codet5p_jax.objectives.objective import BatchShapes, check_features
from codet5p_jax.typing import Batch, Metrics, PyTree, WeightedMean

NAME = "classifier"  # its place beside the model's parameters
ONE, PAIR = ("input_tokens",), ("first_tokens", "second_tokens")


class ClassifierHead(nn.Module):
    """Embeddings -> scores of the classes, float32.

    Of one embedding a linear layer; of two, joined side by side, ``out(tanh(dense(joined)))``:
    the heads of CodeT5's own DefectModel and CloneModel (salesforce/CodeT5, models.py).

    Attributes:
        num_classes: Width of the output.
        hidden_dim: Width of the hidden layer; None: there is none.
    """

    num_classes: int
    hidden_dim: int | None = None

    @nn.compact
    def __call__(self, embeddings: Float[Array, "batch features"]) -> Float[Array, "batch classes"]:
        """Returns the scores before the softmax."""
        init = nn.initializers.normal(0.02)  # as the model's other heads
        h = embeddings.astype(jnp.float32)
        if self.hidden_dim is not None:
            h = jnp.tanh(nn.Dense(self.hidden_dim, kernel_init=init, name="dense")(h))
        return nn.Dense(self.num_classes, kernel_init=init, name="out")(h)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationObjective:
    """Cross-entropy of a class given one sequence (defects) or two (clones).

    The paper says only that a classifier reads the encoder's embedding of the code, or of both
    codes (appendix D). Ours: the embedding is the encoder's hidden state at `<s>`, before the
    projection of contrastive learning; the head is `ClassifierHead`. The decoder gets no gradient.

    Attributes:
        model: The network; an encoder alone will do.
        num_classes: Number of classes, at least 2.
        pair: Whether an example is two sequences.
    """

    model: CodeT5p
    num_classes: int
    pair: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError when there is nothing to tell apart."""
        if self.num_classes < 2:
            raise ValueError(
                f"ClassificationObjective.num_classes is {self.num_classes}; it must be at least "
                "2, two for yes and no."
            )

    @property
    def required_features(self) -> tuple[str, ...]:
        """Names that a batch must have."""
        return (*self._inputs, "labels")

    def check_shapes(self, batch_shapes: BatchShapes) -> None:
        """Raises ValueError for batches that lack a feature."""
        other = ONE if self.pair else PAIR
        if self._inputs[0] not in batch_shapes and other[0] in batch_shapes:
            raise ValueError(
                f"ClassificationObjective.pair is {self.pair}, and the batches hold "
                f"{', '.join(other)}; set it to {not self.pair}."
            )
        check_features(self, batch_shapes)

    @property
    def _inputs(self) -> tuple[str, ...]:
        return PAIR if self.pair else ONE

    @property
    def head(self) -> ClassifierHead:
        """The classifier, whose parameters stand beside the model's, under "classifier"."""
        hidden_dim = self.model.config.embed_dim if self.pair else None
        return ClassifierHead(num_classes=self.num_classes, hidden_dim=hidden_dim)

    def init_params(self, rng: jax.Array) -> PyTree:
        """Returns the parameters of the head: normal(0.02) kernels, biases of 0."""
        features = len(self._inputs) * self.model.config.embed_dim
        return {NAME: dict(self.head.init(rng, jnp.zeros([1, features]))["params"])}

    def init(self, rng: jax.Array, params: PyTree) -> PyTree:
        """Returns an empty state."""
        return {}

    def loss(
        self, params: PyTree, state: PyTree, batch: Batch, rng: jax.Array, *, train: bool
    ) -> tuple[WeightedMean, Metrics, PyTree]:
        """Returns (mean nats per example, metrics, state).

        Args:
            params: Parameters of the model, and those of `init_params`.
            state: Empty.
            batch: input_tokens [batch, inputs], or first_tokens [batch, first] and second_tokens
                [batch, second], rows of ``<s> ... </s>``; labels [batch], from 0, any other than
                a class making the loss NaN; weights [batch] where given, 0 leaving an example out.
            rng: Source of dropout.
            train: Whether dropout is on.

        Raises:
            ValueError: The batch lacks a feature.
        """
        self.check_shapes({name: rows.shape for name, rows in batch.items()})
        logits = self.logits(params, batch, rng, train=train)
        labels = batch["labels"]
        weights = batch.get("weights", jnp.ones(labels.shape))
        is_class = (labels >= 0) & (labels < self.num_classes)
        weights = jnp.where(is_class, weights.astype(jnp.float32), jnp.nan)
        result = token_cross_entropy(logits, labels, weights)
        tokens = nonpadding_share(
            *(batch[name] for name in self._inputs), pad_id=self.model.config.pad_id
        )
        metrics = {"accuracy": result.accuracy, "nonpadding_tokens": tokens}
        return result.loss, metrics, state

    def logits(
        self, params: PyTree, batch: Batch, rng: jax.Array | None = None, *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns the scores of the classes before the softmax; see `loss`."""
        encoded = [
            self._embed(params, batch[name], index, rng, train)
            for index, name in enumerate(self._inputs)
        ]
        scores: Any = self.head.apply({"params": params[NAME]}, jnp.concatenate(encoded, axis=-1))
        return scores

    def flops(self, batch_shapes: BatchShapes, trained: Trained = Trained.ALL) -> float | None:
        """Returns the FLOPs of a training step on a batch of these shapes (models/flops.py)."""
        if trained is not Trained.ALL:
            return None
        config = self.model.config
        shapes = [batch_shapes[name] for name in self._inputs]
        encoders = sum(encoder_flops(config, rows=rows, length=length) for rows, length in shapes)
        weights = config.embed_dim * self.num_classes
        if self.pair:
            weights += 2 * config.embed_dim**2
        return float(TRAINED * (encoders + 2 * shapes[0][0] * weights))

    def _embed(
        self,
        params: PyTree,
        tokens: Int[Array, "batch length"],
        index: int,
        rng: jax.Array | None,
        train: bool,
    ) -> Float[Array, "batch embed"]:
        """Returns the encoder's hidden states at position 0, `<s>`."""
        rngs = {"dropout": jax.random.fold_in(rng, index)} if train and rng is not None else {}
        encoded: Any = self.model.apply(
            {"params": params},
            tokens,
            train=train,
            rngs=rngs,
            method="encode",
        )
        return encoded[:, 0]
