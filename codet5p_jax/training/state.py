"""Everything that a training run must not lose: one pytree, saved and restored whole."""

import enum

import jax
import optax
from flax import linen as nn
from flax import struct

from codet5p_jax.training.loss_statistics import LossStatistics, no_losses
from codet5p_jax.typing import Leaf, PyTree


class Purpose(enum.IntEnum):
    """What randomness is for: each purpose has a branch of the run's root key to itself."""

    INITIALIZATION = 0
    STEP = 1
    EVALUATION = 2


def branch(root: jax.Array, purpose: Purpose) -> jax.Array:
    """Returns the key of `purpose`, a branch of the root key."""
    return jax.random.fold_in(root, int(purpose))


class TrainState(struct.PyTreeNode):
    """State of a training run.

    Attributes:
        step: Number of steps already taken, int32 [].
        params: Parameters of the model and of the objectives, frozen ones too.
        opt_state: State of the optax transformation, for trainable parameters.
        objective_state: What the objectives carry between steps, by stream name.
        rng: Root key of the run; never used but through its branches.
        loss_statistics: What the losses were, and how many steps were skipped.
    """

    step: Leaf
    params: PyTree
    opt_state: optax.OptState
    objective_state: PyTree
    rng: Leaf
    loss_statistics: LossStatistics = struct.field(default_factory=no_losses)

    @property
    def updates(self) -> jax.Array:
        """Number of updates that were applied: steps, but for those skipped; int32 []."""
        return self.step - self.loss_statistics.skipped

    def step_rng(self) -> jax.Array:
        """Returns the key of the current step; the same after a restart."""
        return jax.random.fold_in(branch(self.rng, Purpose.STEP), self.step)

    def evaluation_rng(self) -> jax.Array:
        """Returns the key of every evaluation: all draw alike, so that they can be compared."""
        return branch(self.rng, Purpose.EVALUATION)

    def as_logical_axes(self) -> "TrainState":
        """Returns the same structure with a PartitionSpec of logical axis names at each leaf.

        Only a state whose parameters still carry their names (flax metadata) knows them.
        """
        return nn.get_partition_spec(self)
