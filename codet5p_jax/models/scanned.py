"""Layers with stacked parameters, run as a loop."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn


def scanned_layers(
    layer: type[nn.Module],
    config: Any,
    *,
    length: int,
    unroll: int,
    remat_policy: Callable[..., Any] | None,
    methods: Mapping[str, Mapping[str, Any]],
    **attributes: Any,
) -> nn.Module:
    """Returns `length` layers whose parameters are stacked along a first axis `layers`.

    Args:
        layer: Class of one layer.
        config: Of each.
        length: Number of layers.
        unroll: Layers per iteration of the loop. Initialisation should have 1: it runs once, and
            XLA takes minutes over its random bits.
        remat_policy: What the backward pass keeps; None: everything.
        methods: Method -> its own arguments of nn.scan, such as in_axes.
        **attributes: Of each layer, beside the config.
    """
    if remat_policy is not None:
        layer = nn.remat(layer, policy=remat_policy, prevent_cse=False)
    shared = {
        "variable_axes": {"params": 0},
        "split_rngs": {"params": True},
        "length": length,
        "unroll": min(unroll, length),
        "metadata_params": {nn.PARTITION_NAME: "layers"},
        "check_constancy_invariants": False,
    }
    scanned = nn.scan(layer, methods={name: {**shared, **own} for name, own in methods.items()})
    return scanned(config, **attributes)
