"""Tests of codet5p_jax.training.flops."""

import jax
import pytest

from codet5p_jax.training.flops import StepCost, known_peak_flops, step_cost


@pytest.mark.parametrize(
    "device_kind, peak",
    [
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5e", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("cpu", None),
        ("TPU7x", None),
    ],
)
def test_peaks_are_those_of_the_device(device_kind, peak):
    assert known_peak_flops(device_kind) == peak


def test_mfu_is_the_share_of_the_peak():
    rates = StepCost(flops=6e12, peak_flops_per_second=100e12).rates(5.0)
    assert rates == {"model_flops_per_second": 30e12, "mfu": pytest.approx(0.3)}


def test_there_is_no_mfu_where_the_peak_is_unknown():
    rates = StepCost(flops=6e12, peak_flops_per_second=None).rates(5.0)
    assert rates == {"model_flops_per_second": 30e12}


def test_the_peak_is_that_of_all_devices_together():
    cost = step_cost(6e12, devices=jax.devices()[:2], peak_flops_per_device=7e9)
    assert cost == StepCost(flops=6e12, peak_flops_per_second=14e9)
    assert step_cost(6e12, devices=jax.devices()[:2]).peak_flops_per_second is None  # a CPU


@pytest.mark.parametrize("peak", [0.0, -1.0, float("nan")])
def test_a_peak_that_is_none_is_an_error(peak):
    with pytest.raises(ValueError, match=r"PEAK_FLOPS_PER_DEVICE is .*; give the FLOPs per second"):
        step_cost(0.0, devices=jax.devices()[:1], peak_flops_per_device=peak)
