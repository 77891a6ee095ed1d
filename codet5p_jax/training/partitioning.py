"""Mesh and partition rules in T5X's terms: which axis of which array lies on which devices."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from codet5p_jax.typing import Batch

LogicalAxisRules = Sequence[tuple[str, str | tuple[str, ...] | None]]


def standard_logical_axis_rules(
    *,
    activation_partitioning_dims: int = 1,
    parameter_partitioning_dims: int = 1,
    additional_rules: LogicalAxisRules = (),
) -> LogicalAxisRules:
    """Returns T5X's rules: logical axis -> mesh axis; the first rule that is free applies.

    Args:
        activation_partitioning_dims: 2 also splits the embed axis of activations over `model`.
        parameter_partitioning_dims: 2 also splits parameters over `data` (ZeRO-3).
        additional_rules: Appended, for axes that the standard rules do not name.

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
        ("batch", "data"),
        ("queue", "data"),
        ("vocab", "model"),
        ("mlp", "model"),
        ("heads", "model"),
        ("joined_kv", "model"),
        ("embed", "data" if parameter_partitioning_dims == 2 else None),
        ("activation_embed", "model" if activation_partitioning_dims == 2 else None),
    ]
    unsplit = ("kv", "length", "layers", "relpos_buckets", "projection", "matching")
    return (*rules, *((axis, None) for axis in unsplit), *additional_rules)


@dataclasses.dataclass(frozen=True)
class DataLayout:
    """Which rows of the global batch this process feeds.

    Attributes:
        batch_size: Rows of the global batch.
        shard_id: Index of this process among those that feed batches.
        num_shards: Number of processes that feed batches.
    """

    batch_size: int
    shard_id: int
    num_shards: int


class Partitioner:
    """Places the train state and the batches on a mesh of devices, and compiles steps for it."""

    def __init__(
        self,
        *,
        num_partitions: int = 1,
        logical_axis_rules: LogicalAxisRules | None = None,
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        """Makes a mesh with axes `data` and `model`.

        Args:
            num_partitions: Size of the `model` axis; the other devices are the `data` axis.
            logical_axis_rules: Logical axis -> mesh axis; None means the standard rules.
            devices: Devices to use; None means all.

        Raises:
            ValueError: When the partitions do not divide the devices.
        """
        devices = list(devices or jax.devices())
        if num_partitions < 1 or len(devices) % num_partitions:
            divisors = [n for n in range(1, len(devices) + 1) if len(devices) % n == 0]
            raise ValueError(
                f"Partitioner.num_partitions is {num_partitions}, which does not divide the "
                f"{len(devices)} devices; use one of {', '.join(map(str, divisors))}."
            )
        self.mesh: Mesh = jax.make_mesh(
            (len(devices) // num_partitions, num_partitions),
            ("data", "model"),
            devices=devices,
            axis_types=(AxisType.Auto, AxisType.Auto),
        )
        self._rules = logical_axis_rules or standard_logical_axis_rules()
        self._check_rules()

    def _check_rules(self) -> None:
        for logical, target in self._rules:
            for axis in (target,) if isinstance(target, str) else target or ():
                if axis not in self.mesh.shape:
                    raise ValueError(
                        f"Rule ({logical!r}, {target!r}) names the mesh axis {axis!r}; the mesh "
                        f"has {', '.join(self.mesh.axis_names)}."
                    )

    def get_data_layout(self, batch_size: int) -> DataLayout:
        """Returns the rows that this process feeds.

        Raises:
            ValueError: When the `data` axis does not divide the batch.
        """
        data = self.mesh.shape["data"]
        if batch_size % data:
            raise ValueError(
                f"The batch has {batch_size} rows, which the mesh's `data` axis of {data} devices "
                f"does not divide; use a batch of {-(-batch_size // data) * data} rows."
            )
        return DataLayout(batch_size, jax.process_index(), jax.process_count())

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
        spec = nn.logical_to_mesh_axes(tuple(logical), self._rules)
        for size, axis, target in zip(array.shape, logical, spec or (), strict=False):
            devices = _num_devices(self.mesh, target)
            if size % devices:
                raise ValueError(
                    f"{name} has {size} entries along {axis!r}, which {devices} devices along "
                    f"{target!r} do not divide; use fewer partitions or another rule."
                )
        return spec or PartitionSpec()

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
            # Without the abstract mesh flax leaves out every constraint on activations.
            mesh = jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)
            with mesh, nn.logical_axis_rules(self._rules):
                return fn(*args)

        return jax.jit(
            with_rules,
            in_shardings=self.shardings(in_axis_resources),
            out_shardings=self.shardings(out_axis_resources),
            static_argnums=static_argnums,
            donate_argnums=donate_argnums,
        )

    def compile(self, partitioned_fn: Any, *args: Any) -> Any:
        """Returns the executable of a function from `partition`, for arguments of these shapes."""
        return partitioned_fn.lower(*args).compile()

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> Batch:
        """Returns the global batch on the devices, from this process's rows of it."""
        sharding = NamedSharding(self.mesh, PartitionSpec("data"))
        return {
            name: jax.make_array_from_process_local_data(sharding, rows)
            for name, rows in batch.items()
        }


def _is_instance(cls: type, leaf: Any) -> bool:
    return isinstance(leaf, cls)


def _num_devices(mesh: Mesh, target: Any) -> int:
    axes = (target,) if isinstance(target, str) else target or ()
    return int(np.prod([mesh.shape[axis] for axis in axes], dtype=int))
