"""Devices for gin files of tests: programs for one device compile several times faster."""

import jax


def first_device():
    return jax.devices()[:1]
