"""Running mean and spread of the loss, by which a step can be seen to leap."""

import jax.numpy as jnp
from flax import struct

from codet5p_jax.typing import Leaf


class LossStatistics(struct.PyTreeNode):
    """What the train state remembers of the losses of its phase, and of steps skipped.

    Attributes:
        mean: Running mean of the loss that is minimised, nats, float32 [].
        variance: Running variance about it, float32 [].
        count: Losses in both, int32 []; starts anew with each phase, whose streams set the level.
        skipped: Steps of the run that changed nothing, int32 [].
    """

    mean: Leaf
    variance: Leaf
    count: Leaf
    skipped: Leaf

    def add(self, loss: Leaf, *, decay: float) -> "LossStatistics":
        """Returns the statistics with one more loss.

        Until 1 / (1 - decay) losses were seen they are the plain mean and variance of all, then
        exponential ones (West 1979, with a weight that stays).
        """
        weight = jnp.maximum(1.0 - decay, 1.0 / (self.count + 1).astype(jnp.float32))
        difference = loss - self.mean
        return self.replace(
            mean=self.mean + weight * difference,
            variance=(1.0 - weight) * (self.variance + weight * difference**2),
            count=self.count + 1,
        )

    def restarted(self, restart: Leaf) -> "LossStatistics":
        """Returns statistics of no loss where `restart`, a bool [], is true; these elsewhere."""
        return self.replace(
            mean=jnp.where(restart, 0.0, self.mean),
            variance=jnp.where(restart, 0.0, self.variance),
            count=jnp.where(restart, 0, self.count),
        )


def no_losses() -> LossStatistics:
    """Returns the statistics before the first step."""
    return LossStatistics(jnp.float32(0.0), jnp.float32(0.0), jnp.int32(0), jnp.int32(0))
