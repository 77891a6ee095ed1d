"""What an accelerator can do: one table of TPU and GPU generations."""

import dataclasses
from collections.abc import Sequence

GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One accelerator chip. What is not needed, or not published, is None.

    Attributes:
        generation: Name of topologies, such as "v5e" of "v5e:4x4".
        device_kinds: Starts of what JAX calls its devices.
        flops_per_second: Dense bfloat16 arithmetic of the matrix units, multiply and add two.
        devices: JAX devices of a chip where each has its own program; two cores that share their
            memory and a program (megacore) are one device.
        cores: TensorCores.
        hbm_bytes: Capacity of its memory.
        usable_hbm_bytes: What a program may take of it: the limit in the compiler's own words
            when it runs out (libtpu 0.0.42, "exceeds available HBM (15.75G)"), all devices of the
            chip together.
        hbm_bytes_per_second: Reads and writes together.
        ici_bytes_per_second: Over all links to other chips of the slice, one direction: what the
            chip can send. Half of the "bidirectional bandwidth per chip" of the vendor's tables.
        dcn_bytes_per_second: The chip's share of its host's network, one direction.
    """

    generation: str
    device_kinds: tuple[str, ...]
    flops_per_second: float
    devices: int = 1
    cores: int | None = None
    hbm_bytes: int | None = None
    usable_hbm_bytes: int | None = None
    hbm_bytes_per_second: float | None = None
    ici_bytes_per_second: float | None = None
    dcn_bytes_per_second: float | None = None

    @property
    def flops_per_second_of_device(self) -> float:
        """Returns the dense bfloat16 FLOPs per second of one JAX device."""
        return self.flops_per_second / self.devices


# TPUs: docs.cloud.google.com/tpu/docs, the page of each version, unless a line says otherwise.
# GPUs: NVIDIA's data sheets, half of what they give "with sparsity"; only their arithmetic is
# needed. The first whose device_kinds fit counts, so longer names stand before their beginnings.
CHIPS: Sequence[Chip] = (
    Chip(
        generation="v2",
        device_kinds=("TPU v2",),
        flops_per_second=45e12,
        devices=2,
        cores=2,
        hbm_bytes=16 * GIB,
        usable_hbm_bytes=int(2 * 7.48 * GIB),
        hbm_bytes_per_second=700e9,
    ),
    Chip(
        generation="v3",
        device_kinds=("TPU v3",),
        flops_per_second=123e12,
        devices=2,
        cores=2,
        hbm_bytes=32 * GIB,
        usable_hbm_bytes=int(2 * 15.48 * GIB),
        hbm_bytes_per_second=900e9,
    ),
    # TPU v4i: Jouppi et al. 2021, table 1.
    Chip(generation="v4i", device_kinds=("TPU v4 lite",), flops_per_second=138e12),
    Chip(
        generation="v4",
        device_kinds=("TPU v4",),
        flops_per_second=275e12,
        cores=2,
        hbm_bytes=32 * GIB,
        usable_hbm_bytes=int(30.75 * GIB),  # as megacore; 15.25 for each of two separate cores
        hbm_bytes_per_second=1228e9,
        ici_bytes_per_second=6 * 50e9,  # Jouppi et al. 2023, table 4: six links of 50 GB/s
        dcn_bytes_per_second=3.125e9,  # 100 Gbit/s for the four chips of a host
    ),
    Chip(
        generation="v5e",
        device_kinds=("TPU v5 lite", "TPU v5e"),
        flops_per_second=197e12,
        cores=1,
        hbm_bytes=16 * GIB,
        usable_hbm_bytes=int(15.75 * GIB),
        hbm_bytes_per_second=819e9,
        ici_bytes_per_second=4 * 50e9,  # 400 GB/s both directions, four ports
        dcn_bytes_per_second=6.4e12 / 8 / 256,  # 6.4 Tbit/s for the 256 chips of a pod
    ),
    Chip(
        generation="v5p",
        device_kinds=("TPU v5",),
        flops_per_second=459e12,
        cores=2,
        hbm_bytes=96 * GIB,  # the page says 95, the compiler offers more than that
        usable_hbm_bytes=int(95.74 * GIB),
        hbm_bytes_per_second=2765e9,
        ici_bytes_per_second=6 * 100e9,  # 1200 GB/s both directions, six ports
        dcn_bytes_per_second=50e9 / 8,
    ),
    Chip(
        generation="v6e",
        device_kinds=("TPU v6 lite", "TPU v6e"),
        flops_per_second=918e12,
        cores=1,
        hbm_bytes=32 * GIB,
        usable_hbm_bytes=int(31.25 * GIB),
        hbm_bytes_per_second=1640e9,
        ici_bytes_per_second=4 * 100e9,  # 800 GB/s both directions, four ports
        dcn_bytes_per_second=25.6e12 / 8 / 256,  # 25.6 Tbit/s for the 256 chips of a pod
    ),
    Chip(generation="a100", device_kinds=("NVIDIA A100",), flops_per_second=312e12),
    Chip(generation="h100-pcie", device_kinds=("NVIDIA H100 PCIe",), flops_per_second=756e12),
    Chip(generation="h100-nvl", device_kinds=("NVIDIA H100 NVL",), flops_per_second=835e12),
    Chip(generation="h100", device_kinds=("NVIDIA H100",), flops_per_second=989e12),
    Chip(generation="h200", device_kinds=("NVIDIA H200",), flops_per_second=989e12),
)


def chip_of_device(device_kind: str) -> Chip | None:
    """Returns the chip of a JAX device; None where it is not known.

    Args:
        device_kind: As JAX tells it, such as "TPU v5 lite" or "NVIDIA H100 80GB HBM3".
    """
    return next((chip for chip in CHIPS if device_kind.startswith(chip.device_kinds)), None)


def chip_of_generation(generation: str) -> Chip:
    """Returns the chip of a TPU generation whose every figure a roofline needs is known.

    Args:
        generation: Such as "v5e".

    Raises:
        ValueError: It is no such generation.
    """
    complete = {chip.generation: chip for chip in CHIPS if chip.dcn_bytes_per_second is not None}
    if generation not in complete:
        raise ValueError(
            f"{generation!r} is no TPU generation whose memory and links are known; give one of "
            f"{', '.join(complete)}."
        )
    return complete[generation]
