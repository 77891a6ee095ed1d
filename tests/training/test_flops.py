"""Tests of codet5p_jax.training.flops."""

import jax
import numpy as np
import pytest

from codet5p_jax.models.flops import seq2seq_training_flops
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training.curriculum import Stream
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


def _batch(rows, inputs, targets):
    return {
        "encoder_input_tokens": np.zeros((rows, inputs), np.int32),
        "decoder_input_tokens": np.zeros((rows, targets), np.int32),
    }


def test_a_step_costs_what_its_streams_cost_together(tiny_model):
    objective, devices = Seq2SeqObjective(model=tiny_model), jax.devices()[:2]
    streams = [Stream(name=name, objective=objective, dataset=None) for name in ("a", "b")]
    batches = {"a": _batch(4, 9, 6), "b": _batch(2, 1, 8)}
    cost = step_cost(streams, batches, devices=devices, peak_flops_per_device=7e9)
    config = tiny_model.config
    assert cost.flops == sum(
        seq2seq_training_flops(config, rows=rows, inputs=inputs, targets=targets)
        for rows, inputs, targets in ((4, 9, 6), (2, 1, 8))
    )
    assert cost.peak_flops_per_second == 14e9
    assert step_cost(streams, batches, devices=devices).peak_flops_per_second is None  # a CPU


@pytest.mark.parametrize("peak", [0.0, -1.0, float("nan")])
def test_a_peak_that_is_none_is_an_error(peak):
    with pytest.raises(ValueError, match=r"PEAK_FLOPS_PER_DEVICE is .*; give the FLOPs per second"):
        step_cost([], {}, devices=jax.devices()[:1], peak_flops_per_device=peak)
