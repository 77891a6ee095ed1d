"""What every pretraining objective offers to the training step."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import jax

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.flops import Trained
from codet5p_jax.typing import Batch, Metrics, PyTree, WeightedMean

BatchShapes = Mapping[str, tuple[int, ...]]  # feature name -> shape in the global batch


@runtime_checkable
class Objective(Protocol):
    """A loss of the model on batches of one stream, with the state it carries between steps.

    Pure: parameters and state go in, the loss and the next state come out.

    Attributes:
        model: The network the loss is computed with.
    """

    @property
    def model(self) -> CodeT5p:
        """The network the loss is computed with."""

    @property
    def required_features(self) -> tuple[str, ...]:
        """Names that a batch must have."""

    def check_shapes(self, batch_shapes: BatchShapes) -> None:
        """Raises ValueError for batches that the loss cannot take, naming the gin parameter."""

    def init_params(self, rng: jax.Array) -> PyTree:
        """Returns trainable parameters beyond the model's, by top-level name; often none."""

    def init(self, rng: jax.Array, params: PyTree) -> PyTree:
        """Returns the state before the first step; `params` are the initial parameters."""

    def loss(
        self, params: PyTree, state: PyTree, batch: Batch, rng: jax.Array, *, train: bool
    ) -> tuple[WeightedMean, Metrics, PyTree]:
        """Returns (loss in nats, metrics, next state) of one global batch.

        Args:
            params: Parameters of the model, and those of `init_params`. With FSDP some are boxes
                (split_parameters.py): modules of flax read them as they are, and what else reads a
                parameter unboxes it (`flax.linen.unbox`).
            state: From `init` or the previous step, boxed alike; returned unchanged unless `train`.
            batch: Feature name -> array [batch, ...].
            rng: Source of dropout and of sampled negatives.
            train: Whether dropout is on and the state moves.
        """

    def flops(self, batch_shapes: BatchShapes, trained: Trained = Trained.ALL) -> float | None:
        """Returns the model's FLOPs of a training step, forward and backward (models/flops.py).

        Args:
            batch_shapes: Feature name -> shape of the global batch.
            trained: What the step trains; None where that is not counted.
        """


def check_features(objective: Objective, batch_shapes: BatchShapes) -> None:
    """Raises ValueError where batches lack a feature that `objective` reads."""
    missing = [name for name in objective.required_features if name not in batch_shapes]
    if missing:
        raise ValueError(
            f"{type(objective).__name__} reads {', '.join(missing)}, and the batches hold "
            f"{', '.join(sorted(batch_shapes))}. Set DatasetConfig.feature_converter to the one "
            "made for this objective."
        )
