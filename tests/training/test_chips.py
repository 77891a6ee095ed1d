"""Tests of codet5p_jax.training.chips."""

import pytest

from codet5p_jax.training.chips import CHIPS, GIB, chip_of_device, chip_of_generation


@pytest.mark.parametrize(
    "device_kind, generation",
    [
        ("TPU v4", "v4"),
        ("TPU v4 lite", "v4i"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
    ],
)
def test_a_device_has_the_chip_of_its_kind(device_kind, generation):
    chip = chip_of_device(device_kind)
    assert chip is not None and chip.generation == generation


@pytest.mark.parametrize("device_kind", ["cpu", "TPU7x"])
def test_other_devices_have_no_known_chip(device_kind):
    assert chip_of_device(device_kind) is None


def test_longer_names_stand_before_their_beginnings():
    kinds = [kind for chip in CHIPS for kind in chip.device_kinds]
    for position, kind in enumerate(kinds):
        assert not any(later.startswith(kind) for later in kinds[position + 1 :]), kind


@pytest.mark.parametrize("generation", ["v4", "v5e", "v5p", "v6e"])
def test_a_program_may_take_nearly_all_of_the_memory(generation):
    chip = chip_of_generation(generation)
    assert 0.9 * chip.hbm_bytes < chip.usable_hbm_bytes < chip.hbm_bytes


def test_the_links_of_v5e_are_four_of_50_gigabytes():
    chip = chip_of_generation("v5e")
    assert chip.ici_bytes_per_second == 200e9
    assert chip.usable_hbm_bytes == 15.75 * GIB


def test_a_core_of_v3_is_half_a_chip():
    chip = chip_of_device("TPU v3")
    assert chip is not None and chip.flops_per_second_of_device == 61.5e12


@pytest.mark.parametrize("generation", ["v3", "h100", "v9"])
def test_a_generation_without_known_links_is_an_error(generation):
    with pytest.raises(ValueError, match=f"'{generation}' is no TPU .* one of v4, v5e, v5p, v6e"):
        chip_of_generation(generation)
