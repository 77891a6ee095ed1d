"""What a training step costs, and what the devices could do: the two sides of MFU."""

import dataclasses
from collections.abc import Sequence

import jax

from codet5p_jax.training.chips import chip_of_device


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepCost:
    """Arithmetic of one training step.

    Attributes:
        flops: Of the model, forward and backward, on all devices together.
        peak_flops_per_second: What all devices together could do; None where that is not known.
    """

    flops: float
    peak_flops_per_second: float | None

    def rates(self, steps_per_second: float) -> dict[str, float]:
        """Returns model_flops_per_second, and mfu, its share of the peak, where that is known."""
        flops = self.flops * steps_per_second
        if self.peak_flops_per_second is None:
            return {"model_flops_per_second": flops}
        return {"model_flops_per_second": flops, "mfu": flops / self.peak_flops_per_second}


def step_cost(
    flops: float,
    *,
    devices: Sequence[jax.Device],
    peak_flops_per_device: float | None = None,
) -> StepCost:
    """Returns the cost of a step.

    Args:
        flops: What the model needs in a step, on all devices together.
        devices: All devices of the mesh.
        peak_flops_per_device: FLOPs per second of one device; None looks them up.

    Raises:
        ValueError: The peak is no positive number.
    """
    if peak_flops_per_device is not None and not peak_flops_per_device > 0:
        raise ValueError(
            f"PEAK_FLOPS_PER_DEVICE is {peak_flops_per_device}; give the FLOPs per second of one "
            "device, such as 275e12, or None."
        )
    peak = peak_flops_per_device or known_peak_flops(devices[0].device_kind)
    return StepCost(
        flops=flops, peak_flops_per_second=None if peak is None else peak * len(devices)
    )


def known_peak_flops(device_kind: str) -> float | None:
    """Returns the dense bfloat16 FLOPs per second of one device; None where they are not known.

    Args:
        device_kind: As JAX tells it, such as "TPU v5 lite" or "NVIDIA H100 80GB HBM3".
    """
    chip = chip_of_device(device_kind)
    return None if chip is None else chip.flops_per_second_of_device
