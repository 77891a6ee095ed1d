"""Partition rules in T5X's terms: which axis of which array lies along which axis of the mesh."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from codet5p_jax.objectives.mesh_axes import mesh_axes_of, num_row_shards
from codet5p_jax.training.mesh import make_mesh
from codet5p_jax.typing import Batch

LogicalAxisRules = Sequence[tuple[str, str | tuple[str, ...] | None]]

# Larger all-reduces stay apart. What libtpu emits for several arrays in one takes a tenth of all
# compile time, where arrays of like shapes can share it, and such a message is no faster.
_COMBINED_ALL_REDUCE_BYTES = 2**23
_TPU_COMPILER_OPTIONS = {"xla_jf_crs_combiner_threshold_in_bytes": _COMBINED_ALL_REDUCE_BYTES}


def standard_logical_axis_rules(
    *,
    activation_partitioning_dims: int = 1,
    parameter_partitioning_dims: int = 1,
    additional_rules: LogicalAxisRules = (),
) -> LogicalAxisRules:
    """Returns T5X's rules: logical axis -> mesh axis; the first rule that is free applies.

    Args:
        activation_partitioning_dims: 2 also splits the embed axis of activations over `model`.
        parameter_partitioning_dims: 2 also splits parameters and the optimizer's state over `data`
            (ZeRO-3, FSDP), but never over `slice`: slices hold copies of each other.
        additional_rules: Appended, for axes that the standard rules do not name; those of
            (axis, None) stand first and leave an axis whole that the standard rules would split.

    Raises:
        ValueError: For a number of dimensions other than 1 or 2.
    """
    for name, dims in (
        ("activation_partitioning_dims", activation_partitioning_dims),
        ("parameter_partitioning_dims", parameter_partitioning_dims),
    ):
        if dims not in (1, 2):
            raise ValueError(f"standard_logical_axis_rules.{name} is {dims}; it must be 1 or 2.")
    rules: list[tuple[str, str | tuple[str, ...] | None]] = [
        ("batch", ("slice", "data")),
        ("queue", ("slice", "data")),
        ("vocab", "model"),
        ("mlp", "model"),
        ("heads", "model"),
        ("joined_kv", "model"),
        ("embed", "data" if parameter_partitioning_dims == 2 else None),
        ("activation_embed", "model" if activation_partitioning_dims == 2 else None),
    ]
    unsplit = ("kv", "length", "layers", "relpos_buckets", "projection", "matching")
    whole = [rule for rule in additional_rules if rule[1] is None]
    others = [rule for rule in additional_rules if rule[1] is not None]
    return (*whole, *rules, *((axis, None) for axis in unsplit), *others)


@dataclasses.dataclass(frozen=True)
class DataLayout:
    """How a global batch is cut; which rows a process feeds tells multihost.local_rows.

    Attributes:
        batch_size: Rows of the global batch.
        num_parts: Parts of it that lie on devices of their own.
    """

    batch_size: int
    num_parts: int


class Partitioner:
    """Places the train state and the batches on a mesh of devices, and compiles steps for it."""

    def __init__(
        self,
        *,
        num_partitions: int = 1,
        mesh_shape: tuple[int, int] | None = None,
        num_slices: int | None = None,
        logical_axis_rules: LogicalAxisRules | None = None,
        gather_per_layer: bool = True,
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        """Makes a mesh with axes `slice`, `data` and `model`.

        Args:
            num_partitions: Size of the `model` axis; the other devices of a slice are its `data`
                axis.
            mesh_shape: (data, model) of one slice, in place of `num_partitions`.
            num_slices: Number of slices, between which the network is slow; None asks the devices.
            logical_axis_rules: Logical axis -> mesh axis; None means the standard rules.
            gather_per_layer: Where `data` splits parameters too, whether layers are gathered one at
                a time, which needs least memory, or all before the first microbatch.
            devices: Devices to use; None means all.

        Raises:
            ValueError: When the mesh does not fit the devices, or a rule names an unknown axis.
        """
        self.mesh: Mesh = make_mesh(
            num_partitions=num_partitions,
            mesh_shape=mesh_shape,
            num_slices=num_slices,
            devices=devices,
        )
        self.gather_per_layer = gather_per_layer
        self._rules = tuple(logical_axis_rules or standard_logical_axis_rules())
        self._check_rules()

    def _check_rules(self) -> None:
        for logical, target in self._rules:
            for axis in mesh_axes_of(target):
                if axis not in self.mesh.shape:
                    raise ValueError(
                        f"Rule ({logical!r}, {target!r}) names the mesh axis {axis!r}; the mesh "
                        f"has {', '.join(self.mesh.axis_names)}."
                    )

    @property
    def batch_axes(self) -> PartitionSpec:
        """Mesh axes that the rows of a batch lie along."""
        return nn.logical_to_mesh_axes(("batch",), self._rules) or PartitionSpec()

    @property
    def num_row_shards(self) -> int:
        """Number of parts of a batch that lie on devices of their own."""
        with self._in_force():
            return num_row_shards()

    def get_data_layout(self, batch_size: int) -> DataLayout:
        """Returns how a batch of so many rows is cut.

        Raises:
            ValueError: When the mesh axes of the batch do not divide it.
        """
        parts = self.num_row_shards
        if batch_size % parts:
            raise ValueError(
                f"The batch has {batch_size} rows, which the {parts} devices along "
                f"{_named(self.batch_axes[0])} do not divide; use a batch of "
                f"{-(-batch_size // parts) * parts} rows."
            )
        return DataLayout(batch_size, parts)

    def get_logical_axes(self, train_state: Any) -> Any:
        """Returns the state's logical axes; it must still carry its names (flax metadata)."""
        return train_state.as_logical_axes()

    def get_mesh_axes(self, train_state: Any) -> Any:
        """Returns a PartitionSpec of mesh axes for each leaf of a state that carries its names.

        Raises:
            ValueError: When an axis of a parameter has no rule, or its mesh axis does not
                divide it.
        """
        axes = self.get_logical_axes(train_state)
        arrays = nn.unbox(train_state)
        is_spec = functools.partial(_is_instance, PartitionSpec)
        return jax.tree_util.tree_map_with_path(self._leaf_mesh_axes, axes, arrays, is_leaf=is_spec)

    def _leaf_mesh_axes(
        self, path: tuple[Any, ...], logical: PartitionSpec, array: jax.Array | jax.ShapeDtypeStruct
    ) -> PartitionSpec:
        name = jax.tree_util.keystr(path)
        known = {axis for axis, _ in self._rules}
        for axis in logical:
            if axis is not None and axis not in known:
                raise ValueError(
                    f"{name} has the logical axis {axis!r}, which no rule names; add "
                    f"({axis!r}, None) to standard_logical_axis_rules.additional_rules."
                )
        spec = nn.logical_to_mesh_axes(tuple(logical), self._rules) or PartitionSpec()
        for size, axis, target in zip(array.shape, logical, spec, strict=False):
            self._check_free(f"{name} {tuple(logical)}", axis, target, spec)
            devices = _num_devices(self.mesh, target)
            if size % devices:
                raise ValueError(
                    f"{name} has {size} entries along {axis!r}, which the {devices} devices along "
                    f"{_named(target)} do not divide; they divide among "
                    f"{_largest_divisor(size, devices)}. Use another mesh, or add "
                    f"({axis!r}, None) to standard_logical_axis_rules.additional_rules to leave it "
                    "whole."
                )
        return spec

    def _check_free(self, name: str, axis: str | None, target: Any, spec: PartitionSpec) -> None:
        """Raises ValueError where every rule of `axis` names a mesh axis that another one took."""
        wanted = [mesh_axis for logical, mesh_axis in self._rules if logical == axis]
        if axis is None or target is not None or None in wanted:
            return
        taken = {mesh_axis for each in spec for mesh_axis in mesh_axes_of(each)}
        clash = ", ".join(sorted({a for each in wanted for a in mesh_axes_of(each)} & taken))
        raise ValueError(
            f"{name}: {axis!r} would lie along {clash!r}, which another axis takes. Add "
            f"({axis!r}, None) to standard_logical_axis_rules.additional_rules to leave it whole."
        )

    def shardings(self, mesh_axes: Any) -> Any:
        """Returns a NamedSharding for each PartitionSpec of mesh axes."""
        return jax.tree.map(
            lambda spec: NamedSharding(self.mesh, spec),
            mesh_axes,
            is_leaf=functools.partial(_is_instance, PartitionSpec),
        )

    def partition(
        self,
        fn: Callable[..., Any],
        in_axis_resources: Any,
        out_axis_resources: Any,
        static_argnums: int | Sequence[int] = (),
        donate_argnums: int | Sequence[int] = (),
    ) -> Callable[..., Any]:
        """Returns `fn` jitted, arguments and results placed by their mesh axes (None: by XLA)."""

        @functools.wraps(fn)
        def with_rules(*args: Any) -> Any:
            with self._in_force():
                return fn(*args)

        on_tpu = self.mesh.devices.flat[0].platform == "tpu"
        return jax.jit(
            with_rules,
            in_shardings=self.shardings(in_axis_resources),
            out_shardings=self.shardings(out_axis_resources),
            static_argnums=static_argnums,
            donate_argnums=donate_argnums,
            compiler_options=_TPU_COMPILER_OPTIONS if on_tpu else None,
        )

    @contextlib.contextmanager
    def _in_force(self) -> Iterator[None]:
        """Mesh and rules for what is traced in the block."""
        # Without the abstract mesh flax leaves out every constraint on activations.
        mesh = jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)
        with mesh, nn.logical_axis_rules(self._rules):
            yield

    def compile(self, partitioned_fn: Any, *args: Any) -> Any:
        """Returns the executable of a function from `partition`, for arguments of these shapes."""
        return partitioned_fn.lower(*args).compile()

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> Batch:
        """Returns the global batch on the devices, from this process's rows of it."""
        sharding = NamedSharding(self.mesh, self.batch_axes)
        return {
            name: jax.make_array_from_process_local_data(sharding, rows)
            for name, rows in batch.items()
        }


def _is_instance(cls: type, leaf: Any) -> bool:
    return isinstance(leaf, cls)


def _named(target: str | tuple[str, ...] | None) -> str:
    return " and ".join(repr(axis) for axis in mesh_axes_of(target))


def _num_devices(mesh: Mesh, target: str | tuple[str, ...] | None) -> int:
    return math.prod(mesh.shape[axis] for axis in mesh_axes_of(target))


def _largest_divisor(size: int, most: int) -> int:
    return max(n for n in range(1, most + 1) if size % n == 0)
