"""Tests of training.stream_checks; what gin files give rise to is in cli/test_train.py."""

import jax
import pytest

from codet5p_jax.objectives.bimodal import BimodalObjective
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training.partitioning import Partitioner
from codet5p_jax.training.stream_checks import check_batches


def _seq2seq_shapes(batch):
    names = ("encoder_input_tokens", *(f"decoder_{n}" for n in ("input_tokens", "target_tokens")))
    return dict.fromkeys((*names, "decoder_loss_weights"), (batch, 16))


def _pair_shapes(batch):
    return {"text_tokens": (batch, 6), "code_tokens": (batch, 9), "pair_ids": (batch,)}


def _devices(count):
    return Partitioner(devices=jax.devices()[:count])


@pytest.mark.parametrize("parts, devices", [(1, 8), (2, 4), (4, 2), (3, 8), (24, 1)])
def test_batches_are_computed_in_parts_that_lie_on_all_devices(tiny_model, parts, devices):
    objective = Seq2SeqObjective(model=tiny_model, microbatches=parts)
    check_batches(objective, _seq2seq_shapes(24), partitioner=_devices(devices))


@pytest.mark.parametrize("parts, devices, fitting", [(2, 8, "1, 3"), (5, 4, "1, 2, 3, 6")])
def test_other_parts_name_those_that_do(tiny_model, parts, devices, fitting):
    objective = Seq2SeqObjective(model=tiny_model, microbatches=parts)
    with pytest.raises(ValueError, match=f"MICROBATCHES is {parts}, .* in {fitting} parts of like"):
        check_batches(objective, _seq2seq_shapes(24), partitioner=_devices(devices))


@pytest.mark.parametrize("queue", [0, 8, 80])
def test_a_queue_holds_whole_batches(tiny_model, queue):
    objective = BimodalObjective(model=tiny_model, text_length=6, code_length=9, queue_size=queue)
    check_batches(objective, _pair_shapes(8), partitioner=_devices(8))
