"""Everything that a training run must not lose: one pytree, saved and restored whole."""

import jax
import optax
from flax import linen as nn
from flax import struct

from codet5p_jax.typing import Leaf, PyTree


class TrainState(struct.PyTreeNode):
    """State of a training run.

    Attributes:
        step: Number of updates already applied, int32 [].
        params: Parameters of the model and of the objectives; all are trained.
        opt_state: State of the optax transformation.
        objective_state: What the objectives carry between steps, by stream name.
        rng: Root key of the run; each step folds in `step`, so resuming changes nothing.
    """

    step: Leaf
    params: PyTree
    opt_state: optax.OptState
    objective_state: PyTree
    rng: Leaf

    def step_rng(self) -> jax.Array:
        """Returns the key of the current step; the same after a restart."""
        return jax.random.fold_in(self.rng, self.step)

    def as_logical_axes(self) -> "TrainState":
        """Returns the same structure with a PartitionSpec of logical axis names at each leaf.

        Only a state whose parameters still carry their names (flax metadata) knows them.
        """
        return nn.get_partition_spec(self)
