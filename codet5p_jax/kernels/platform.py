"""Which devices what is being traced will run on: kernels are for one kind of them."""

import jax

_MIB = 2**20
# VMEM of a core, by what JAX calls the device; of beginnings, the longest counts.
_VMEM_BYTES = {
    "TPU v4": 16 * _MIB,
    "TPU v5": 64 * _MIB,  # v5p
    "TPU v5 lite": 128 * _MIB,
    "TPU v5e": 128 * _MIB,
    "TPU v6 lite": 128 * _MIB,
    "TPU v6e": 128 * _MIB,
    "TPU7x": 64 * _MIB,
}


def platform() -> str:
    """Returns "cpu", "gpu" or "tpu", of the mesh in force, else of JAX's default backend.

    The mesh knows its platform also where it is only compiled for, on a machine without it.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def vmem_bytes() -> int:
    """Returns the VMEM of a core of such a device: of unknown TPUs 16 MiB, else the largest."""
    device = jax.sharding.get_abstract_mesh().abstract_device or jax.devices()[0]
    kind = device.device_kind
    if not kind.startswith("TPU"):
        return max(_VMEM_BYTES.values())
    fits = [name for name in _VMEM_BYTES if kind.startswith(name)]
    return _VMEM_BYTES[max(fits, key=len)] if fits else min(_VMEM_BYTES.values())
