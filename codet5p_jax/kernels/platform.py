"""Which devices what is being traced will run on: kernels are for one kind of them."""

import jax
from jax.experimental.pallas import tpu as pltpu

RESERVED_VMEM_BYTES = 2**17  # by libtpu 0.0.42, at most: "Exceeded ... of 63.94M vmem" of a v5p
LARGEST_VMEM_BYTES = 128 * 2**20  # of a v5e or v6e; what the interpreter is held to


def platform() -> str:
    """Returns "cpu", "gpu" or "tpu", of the mesh in force, else of JAX's default backend.

    The mesh knows its platform also where it is only compiled for, on a machine without it.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def vmem_bytes() -> int:
    """Returns the VMEM of a core of such a device that a program may take; off TPUs a v5e's."""
    is_tpu = pltpu.is_tpu_device()
    there = pltpu.get_tpu_info().vmem_capacity_bytes if is_tpu else LARGEST_VMEM_BYTES
    return there - RESERVED_VMEM_BYTES


def compute_capability() -> float:
    """Returns that of this machine's first device, such as 9.0; 0 of all but NVIDIA's GPUs."""
    told = str(getattr(jax.devices()[0], "compute_capability", ""))
    return float(told) if told.replace(".", "", 1).isdigit() else 0.0
