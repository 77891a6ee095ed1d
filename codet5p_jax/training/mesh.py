"""The devices of a run as a mesh: `slice` across data-center network, `data` and `model` within.

Each TPU slice, or each host of GPUs, is fast inside and slow outside. Copies of the model lie along
`slice` and `data`; the devices along `model` share one copy.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

MESH_AXES = ("slice", "data", "model")


def make_mesh(
    *,
    num_partitions: int = 1,
    mesh_shape: tuple[int, int] | None = None,
    num_slices: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """Returns a mesh with axes `slice`, `data` and `model`.

    Neighbours on the mesh are neighbours in the torus of a TPU slice wherever its shape allows it.

    Args:
        num_partitions: Size of the `model` axis; the other devices of a slice are its `data` axis.
        mesh_shape: (data, model) of one slice, in place of `num_partitions`.
        num_slices: Number of slices; None asks the devices.
        devices: Devices to use; None means all.

    Raises:
        ValueError: The mesh has another number of devices than there are.
    """
    devices = list(jax.devices() if devices is None else devices)
    slices = count_slices(devices) if num_slices is None else num_slices
    if slices < 1 or len(devices) % slices:
        raise ValueError(
            f"Partitioner.num_slices is {slices}, which does not divide the {len(devices)} "
            f"devices; use one of {_divisors(len(devices))}."
        )
    per_slice = len(devices) // slices
    shape = _slice_shape(per_slice, num_partitions, mesh_shape)
    return Mesh(_arranged(devices, slices, shape), MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def count_slices(devices: Sequence[jax.Device]) -> int:
    """Returns in how many TPU slices the devices lie; 1 where they do not know."""
    return len({getattr(device, "slice_index", 0) for device in devices})


def _slice_shape(
    per_slice: int, num_partitions: int, mesh_shape: tuple[int, int] | None
) -> tuple[int, int]:
    if mesh_shape is None:
        if num_partitions < 1 or per_slice % num_partitions:
            raise ValueError(
                f"Partitioner.num_partitions is {num_partitions}, which does not divide the "
                f"{per_slice} devices of a slice; set NUM_PARTITIONS to one of "
                f"{_divisors(per_slice)}."
            )
        return per_slice // num_partitions, num_partitions
    if num_partitions != 1:
        raise ValueError(
            f"Partitioner.mesh_shape is {mesh_shape} and num_partitions {num_partitions}; set "
            "MESH_SHAPE or NUM_PARTITIONS, not both."
        )
    data, model = mesh_shape
    if min(data, model) < 1 or data * model != per_slice:
        fitting = ", ".join(f"({per_slice // n}, {n})" for n in _divisor_list(per_slice))
        raise ValueError(
            f"Partitioner.mesh_shape is {tuple(mesh_shape)}, {data * model} devices, and a slice "
            f"has {per_slice}; set MESH_SHAPE to one of {fitting}."
        )
    return data, model


def _arranged(devices: list[jax.Device], slices: int, shape: tuple[int, int]) -> np.ndarray:
    """Returns the devices as an array [slice, data, model]."""
    if count_slices(devices) == slices > 1:
        return mesh_utils.create_hybrid_device_mesh(
            (1, *shape), (slices, 1, 1), devices, allow_split_physical_axes=True
        )
    per_slice = len(devices) // slices
    parts = (devices[start : start + per_slice] for start in range(0, len(devices), per_slice))
    return np.stack(
        [
            # A 4x4 slice has no axis of 8: without splitting axes of the torus it has no (8, 2).
            mesh_utils.create_device_mesh(shape, part, allow_split_physical_axes=True)
            for part in parts
        ]
    )


def _divisor_list(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _divisors(number: int) -> str:
    return ", ".join(map(str, _divisor_list(number)))
