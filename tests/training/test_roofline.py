"""Tests of codet5p_jax.training.roofline."""

import dataclasses

import pytest

from codet5p_jax.training.chips import Chip, chip_of_device
from codet5p_jax.training.hlo.collectives import Collective
from codet5p_jax.training.program_costs import ProgramCosts
from codet5p_jax.training.roofline import roofline

CHIP = Chip(
    generation="toy",
    device_kinds=("toy",),
    flops_per_second=100.0,
    hbm_bytes_per_second=50.0,
    ici_bytes_per_second=20.0,
    dcn_bytes_per_second=2.0,
)


def _message(kind, operand_bytes, *, group_size=4, across_slices=False):
    return Collective(
        kind=kind,
        group_size=group_size,
        across_slices=across_slices,
        count=1,
        operand_bytes=operand_bytes,
    )


def _costs(flops=0, hbm_bytes=0, collectives=()):
    return ProgramCosts(
        flops=flops,
        elementwise_flops=0,
        transcendentals=0,
        hbm_bytes=hbm_bytes,
        collectives=tuple(collectives),
        unknown=(),
    )


def test_each_resource_takes_its_share_of_the_chip():
    messages = [_message("all-reduce", 40), _message("all-to-all", 8, across_slices=True)]
    bound = roofline(_costs(300, 200, messages), CHIP)
    # 2 * 3/4 * 40 bytes over links of 20 a second, 3/4 * 8 over a network of 2.
    assert bound.seconds == {"MXU": 3.0, "HBM": 4.0, "ICI": 3.0, "DCN": 3.0}
    assert (bound.limit, bound.step_seconds) == ("HBM", 4.0)


@pytest.mark.parametrize(
    "kind, wire_bytes",
    [
        ("all-reduce", 60.0),
        ("all-gather", 120.0),
        ("reduce-scatter", 30.0),
        ("all-to-all", 30.0),
        ("collective-permute", 40.0),
        ("collective-broadcast", 40.0),
    ],
)
def test_four_devices_send_of_40_bytes_each(kind, wire_bytes):
    assert _message(kind, 40).wire_bytes == wire_bytes


def test_gathering_a_scattered_sum_costs_what_reducing_it_whole_costs():
    whole = _message("all-reduce", 64).wire_bytes
    parts = _message("reduce-scatter", 64).wire_bytes + _message("all-gather", 16).wire_bytes
    assert whole == parts


def test_mfu_cannot_exceed_what_the_limiting_resource_leaves():
    bound = roofline(_costs(flops=300, hbm_bytes=200), CHIP)
    assert bound.mfu_bound(model_flops=200.0) == 200.0 / (4.0 * 100.0)


def test_two_devices_of_a_chip_share_all_it_has():
    costs = _costs(300, 200, [_message("all-reduce", 40)])
    alone, shared = roofline(costs, CHIP), roofline(costs, CHIP, devices_per_chip=2)
    assert shared.seconds == {name: 2 * seconds for name, seconds in alone.seconds.items()}
    assert shared.mfu_bound(200.0) == alone.mfu_bound(200.0)


def test_a_chip_of_unknown_memory_is_an_error():
    with pytest.raises(ValueError, match=r"hbm_bytes_per_second of h100 is not known.*CHIPS"):
        roofline(_costs(), chip_of_device("NVIDIA H100"))
    without_network = dataclasses.replace(CHIP, dcn_bytes_per_second=None)
    with pytest.raises(ValueError, match="dcn_bytes_per_second of toy is not known"):
        roofline(_costs(), without_network)
