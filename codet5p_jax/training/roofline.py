"""How fast a program can be at best: its costs against what the chip can do.

A bound, not a forecast: arithmetic, memory and messages overlap perfectly, each at its full rate,
every link busy in its direction; products of float32 run as fast as of bfloat16.
"""

import dataclasses

from codet5p_jax.training.chips import Chip
from codet5p_jax.training.program_costs import ProgramCosts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roofline:
    """Seconds that each resource of a device needs for one run of a program.

    Attributes:
        mxu_seconds: Of the matrix units.
        hbm_seconds: Of the memory.
        ici_seconds: Of the links within a slice.
        dcn_seconds: Of the network between slices.
        flops_per_second: Of the device, at its peak.
    """

    mxu_seconds: float
    hbm_seconds: float
    ici_seconds: float
    dcn_seconds: float
    flops_per_second: float

    @property
    def seconds(self) -> dict[str, float]:
        """Returns resource -> the seconds it needs."""
        return {
            "MXU": self.mxu_seconds,
            "HBM": self.hbm_seconds,
            "ICI": self.ici_seconds,
            "DCN": self.dcn_seconds,
        }

    @property
    def limit(self) -> str:
        """Returns the resource that needs longest."""
        return max(self.seconds, key=lambda resource: self.seconds[resource])

    @property
    def step_seconds(self) -> float:
        """Returns the least time of a run: that of the limiting resource."""
        return self.seconds[self.limit]

    def mfu_bound(self, model_flops: int | float) -> float:
        """Returns the model FLOPs utilisation that no run can exceed.

        Args:
            model_flops: What the model needs in one run, of one device: without what the program
                computes twice.
        """
        return model_flops / (self.step_seconds * self.flops_per_second)


def roofline(costs: ProgramCosts, chip: Chip, *, devices_per_chip: int = 1) -> Roofline:
    """Returns the seconds that a program needs of each resource of a device.

    Args:
        costs: Of one device.
        chip: It runs on; its memory and links must be known.
        devices_per_chip: JAX devices that share a chip (two on TPU v4 without megacore).

    Raises:
        ValueError: The chip's memory or links are not known.
    """
    hbm, ici, dcn = (
        _known(chip, name) / devices_per_chip
        for name in ("hbm_bytes_per_second", "ici_bytes_per_second", "dcn_bytes_per_second")
    )
    flops_per_second = chip.flops_per_second / devices_per_chip
    return Roofline(
        mxu_seconds=costs.flops / flops_per_second,
        hbm_seconds=costs.hbm_bytes / hbm,
        ici_seconds=costs.wire_bytes(across_slices=False) / ici,
        dcn_seconds=costs.wire_bytes(across_slices=True) / dcn,
        flops_per_second=flops_per_second,
    )


def _known(chip: Chip, name: str) -> float:
    rate = getattr(chip, name)
    if rate is None:
        raise ValueError(
            f"{name} of {chip.generation} is not known, and a roofline needs it; add it to CHIPS "
            "in training/chips.py, or choose a generation of chip_of_generation."
        )
    return rate
