"""Which devices what is being traced will run on: kernels are for one kind of them."""

import jax


def platform() -> str:
    """Returns "cpu", "gpu" or "tpu", of the mesh in force, else of JAX's default backend.

    The mesh knows its platform also where it is only compiled for, on a machine without it.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform
