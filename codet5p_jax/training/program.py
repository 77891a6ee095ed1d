"""What a run computes: the state it begins with and its steps, laid out on a mesh.

A program knows shapes and places alone: no folder, no data. So the same steps can be compiled for
devices that are not there.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.typing import DTypeLike

from codet5p_jax.models.codet5p import CodeT5p, fresh_params, language_model_paths
from codet5p_jax.models.flops import Trained
from codet5p_jax.objectives.split_parameters import Gathering
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
from codet5p_jax.training.loss_guard import STOP_ON_NON_FINITE, LossGuard, Verdict, guarded_step
from codet5p_jax.training.optimizer import init_state
from codet5p_jax.training.parameter_rules import (
    EVERY_PARAMETER,
    ParameterRules,
    leaves_by_path,
    nested,
    parameter_factors,
)
from codet5p_jax.training.partitioning import Partitioner
from codet5p_jax.training.state import Purpose, TrainState, branch
from codet5p_jax.training.step import eval_step, train_step
from codet5p_jax.typing import Batch, Metrics, PyTree

TrainStep = Callable[[TrainState, Mapping[str, Batch]], tuple[TrainState, Metrics, Verdict]]
AbstractBatch = Mapping[str, jax.ShapeDtypeStruct]  # feature name -> its global shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """State and steps of a curriculum.

    Attributes:
        curriculum: What is trained when.
        learning_rate: Step -> learning rate.
        optimizer: Learning rate schedule -> optax transformation.
        partitioner: Places the state on devices.
        parameter_rules: Which parameters are trained, and how fast.
        frozen_dtype: What frozen parameters are kept in; None keeps float32.
        loss_guard: When a step changes nothing.
        seed: Root of all randomness, but the data's.
    """

    curriculum: Curriculum
    learning_rate: optax.Schedule
    optimizer: Callable[[optax.Schedule], optax.GradientTransformation]
    partitioner: Partitioner
    parameter_rules: ParameterRules = EVERY_PARAMETER
    frozen_dtype: DTypeLike | None = None
    loss_guard: LossGuard = STOP_ON_NON_FINITE
    seed: int = 0

    @property
    def model(self) -> CodeT5p:
        """The model, which all streams share."""
        return next(iter(self.curriculum.streams.values())).objective.model

    @functools.cached_property
    def transformation(self) -> optax.GradientTransformation:
        """The optimizer at the run's learning rates."""
        return self.optimizer(self.learning_rate)

    @functools.cached_property
    def state_axes(self) -> TrainState:
        """Mesh axes of every leaf of the state.

        Raises:
            ValueError: The state does not fit the mesh, or no rule matches a parameter.
        """
        return self.partitioner.get_mesh_axes(self._named_state)

    def abstract_state(self) -> TrainState:
        """Returns shapes, dtypes and shardings of the state; nothing is allocated."""
        shapes = nn.unbox(self._named_state)
        shardings = self.partitioner.shardings(self.state_axes)
        return jax.tree.map(
            lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding),
            shapes,
            shardings,
        )

    def initial_state(self, taken: PyTree | None = None) -> TrainState:
        """Returns the state at step 0 on its devices; no device holds more than its own part.

        Args:
            taken: Parameters to begin with, any part of the tree: arrays of the host, or what gives
                a part of one when indexed. The others are drawn.
        """
        shardings = self.partitioner.shardings(self.state_axes)
        if not taken:
            whole = jax.jit(lambda key: nn.unbox(self._create(key)), out_shardings=shardings)
            return whole(self._key_data)
        places = leaves_by_path(self.abstract_state().params)
        given = {
            path: _placed(array, places[path].dtype, places[path].sharding)
            for path, array in leaves_by_path(taken).items()
        }
        drawn = {path: leaf.sharding for path, leaf in places.items() if path not in given}

        def draw(key_data: jax.Array) -> dict[str, jax.Array]:
            params = leaves_by_path(nn.unbox(self._initial_params(key_data)))
            return {path: params[path] for path in drawn}

        params = given
        if drawn:
            params |= jax.jit(draw, out_shardings=drawn)(self._key_data)

        def create(key_data: jax.Array, params: PyTree) -> TrainState:
            return nn.unbox(self._create(key_data, params))

        make = jax.jit(create, out_shardings=shardings, donate_argnums=1)
        return make(self._key_data, nested(params))

    @functools.cached_property
    def train_steps(self) -> Mapping[int, TrainStep]:
        """First step of a phase -> its step; compiled when first called, and once."""
        starts = itertools.accumulate((phase.steps for phase in self.curriculum.phases), initial=0)
        return {
            start: self._train_step(phase, first_step=start)
            for phase, start in zip(self.curriculum.phases, starts, strict=False)
        }

    @functools.cached_property
    def eval_steps(self) -> Mapping[str, Callable[[TrainState, Batch], Metrics]]:
        """Stream name -> the step that computes metrics of one of its held-out batches."""

        def partition(stream: Stream) -> Callable[[TrainState, Batch], Metrics]:
            step_fn = functools.partial(eval_step, stream=stream, box=self._box)
            return self.partitioner.partition(step_fn, (self.state_axes, None), None)

        return {name: partition(stream) for name, stream in self.curriculum.streams.items()}

    def model_flops(self, phase: Phase, batches: Mapping[str, Batch]) -> float | None:
        """Returns the FLOPs that the model needs in a step of `phase`, on all devices together.

        None where parameters are frozen in a way that the objectives do not count: they know of
        training everything, and everything but the decoder's language model (models/flops.py).

        Args:
            phase: What is trained.
            batches: Stream name -> global batch, of which the shapes alone are read.
        """
        frozen = parameter_factors(self.parameter_rules, nn.unbox(self._named_state.params)).frozen
        if not frozen:
            trained = Trained.ALL
        elif frozen == language_model_paths(self.model.config, self._named_state.params):
            trained = Trained.BUT_LANGUAGE_MODEL
        else:
            return None
        shapes = {
            stream: {name: tuple(rows.shape) for name, rows in batch.items()}
            for stream, batch in batches.items()
        }
        counts = [stream.objective.flops(shapes[stream.name], trained) for stream in phase.streams]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def lower_train_step(
        self, first_step: int, batches: Mapping[str, AbstractBatch]
    ) -> jax.stages.Lowered:
        """Returns the step of a phase lowered for the mesh, to compile without a device.

        Args:
            first_step: First step of the phase, a key of `train_steps`.
            batches: Stream name -> shapes of its global batch.
        """
        sharding = NamedSharding(self.partitioner.mesh, self.partitioner.batch_axes)
        placed = jax.tree.map(
            lambda rows: jax.ShapeDtypeStruct(rows.shape, rows.dtype, sharding=sharding), batches
        )
        step = self.train_steps[first_step]
        return step.lower(self.abstract_state(), placed)  # type: ignore[attr-defined]

    def _train_step(self, phase: Phase, *, first_step: int) -> TrainStep:
        step_fn = functools.partial(
            train_step,
            streams=phase.streams,
            optimizer=self.transformation,
            learning_rate=self.learning_rate,
            parameter_rules=self.parameter_rules,
            box=self._box,
        )
        guarded = functools.partial(
            guarded_step, step=step_fn, guard=self.loss_guard, first_step=first_step
        )
        return self.partitioner.partition(
            guarded, (self.state_axes, None), (self.state_axes, None, None), donate_argnums=0
        )

    def _create(self, key_data: jax.Array, values: PyTree | None = None) -> TrainState:
        """Returns the state at step 0, its parameters still with their logical axis names.

        Args:
            key_data: Of the run's root key.
            values: All parameters; None draws them.
        """
        rng = jax.random.wrap_key_data(key_data)
        _, objective_rng = _initialization_rngs(rng)
        if values is None:
            params = self._initial_params(key_data)
        else:
            named = self._named_state.params
            params = jax.tree.map(_with_value, named, values, is_leaf=_is_boxed)
        objective_state = {
            name: stream.objective.init(jax.random.fold_in(objective_rng, index), params)
            for index, (name, stream) in enumerate(sorted(self.curriculum.streams.items()))
        }
        trainable = parameter_factors(self.parameter_rules, params).split(params)[0]
        return TrainState(
            step=jnp.int32(0),
            params=params,
            opt_state=init_state(self.transformation, trainable),
            objective_state=objective_state,
            rng=rng,
        )

    def _initial_params(self, key_data: jax.Array) -> PyTree:
        """Draws the parameters; those that are frozen have their dtype."""
        params_rng, _ = _initialization_rngs(jax.random.wrap_key_data(key_data))
        params = self._fresh_params(params_rng)
        factors = parameter_factors(self.parameter_rules, params)
        return factors.cast_frozen(params, self.frozen_dtype)

    def _fresh_params(self, rng: jax.Array) -> PyTree:
        """Initialises the model and what the objectives add to it."""
        model_rng, objective_rng = jax.random.split(rng)
        params = fresh_params(self.model, model_rng)
        for index, stream in enumerate(self.curriculum.streams.values()):
            params |= stream.objective.init_params(jax.random.fold_in(objective_rng, index))
        return params

    @functools.cached_property
    def _named_state(self) -> TrainState:
        """Shapes of the state, with the logical axis names of its leaves."""
        return jax.eval_shape(self._create, self._key_data)

    def _box(self, params: PyTree, objective_state: PyTree) -> tuple[PyTree, PyTree]:
        """Returns both with what lies in parts on the devices of the rows in boxes."""
        gathering = Gathering(self.model.config.dtype, self.partitioner.gather_per_layer)
        axes = self.partitioner.get_logical_axes(self._named_state)
        boxed_params = gathering.box(params, axes.params)
        return boxed_params, gathering.box(objective_state, axes.objective_state)

    @functools.cached_property
    def _key_data(self) -> Any:
        # On the host: there may be no device of the mesh to put it on.
        return jax.device_get(jax.random.key_data(jax.random.key(self.seed)))


def _initialization_rngs(root: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the keys that parameters and the objectives' states begin with."""
    params_rng, objective_rng = jax.random.split(branch(root, Purpose.INITIALIZATION))
    return params_rng, objective_rng


def _is_boxed(leaf: Any) -> bool:
    return isinstance(leaf, nn.meta.AxisMetadata)


def _with_value(leaf: Any, value: jax.Array) -> Any:
    """Returns `value` with the axis names of `leaf`."""
    return leaf.replace_boxed(value) if _is_boxed(leaf) else value


def _placed(array: Any, dtype: DTypeLike, sharding: NamedSharding) -> jax.Array:
    """Returns an array of the host on devices, of which each is given its part alone."""

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        return np.asarray(array[index or ()]).astype(dtype)

    return jax.make_array_from_callback(tuple(array.shape), sharding, part)
