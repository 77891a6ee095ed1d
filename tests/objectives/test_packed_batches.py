"""Packed rows give the loss and the gradients of their examples, one to a row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.data.feature_converters import seq2seq_features
from codet5p_jax.data.packing import empty_batch, place_packed, segment_positions
from codet5p_jax.data.task_stream import Example
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective

CLM = 3
# Tokens of (inputs, targets); of 1 and n: decoder-only, whose encoder reads [CLM] alone.
SIZES = [(9, 4), (1, 11), (5, 6), (1, 3), (7, 2), (1, 5), (12, 7)]
ROW = {"inputs": 16, "targets": 14}


@pytest.fixture(scope="module")
def examples():
    numbers = np.random.default_rng(0)
    drawn = [[numbers.integers(5, 400, size) for size in sizes] for sizes in SIZES]
    return [([CLM] if len(i) == 1 else [1, *i[1:]], [1, *t[1:-1], 2]) for i, t in drawn]


class _Stream:
    """The examples in order, as a virtual shard offers them."""

    def __init__(self, examples):
        self._waiting = list(examples)

    def peek(self):
        if not self._waiting:
            return None
        sides = dict(zip(("inputs", "targets"), self._waiting[0], strict=True))
        features = {name: np.array([tokens]) for name, tokens in sides.items()}
        return Example(features, {n: np.array([len(t)]) for n, t in sides.items()}, 0)

    def advance(self):
        self._waiting.pop(0)


@pytest.fixture(scope="module")
def packed(examples):
    """Rows as the data layer packs them, the last one padding."""
    batch = empty_batch(4, lengths=ROW, scalars=(), pack=True)
    assert place_packed(batch, range(4), shard=_Stream(examples), lengths=ROW) == 3
    positions = {f"{n}_positions": segment_positions(batch[f"{n}_segment_ids"]) for n in ROW}
    features = seq2seq_features({**batch, **positions})
    assert features["decoder_segment_ids"].max(axis=1).tolist() == [3, 2, 2, 0]
    return features


@pytest.fixture(scope="module")
def padded(examples):
    """One example to a row, written out by hand."""
    inputs, targets, shifted = (np.zeros([len(examples), n], np.int32) for n in (12, 11, 11))
    for row, (source, target) in enumerate(examples):
        inputs[row, : len(source)] = source
        targets[row, : len(target)] = target
        shifted[row, 1 : len(target)] = target[:-1]
    return {
        "encoder_input_tokens": inputs,
        "decoder_input_tokens": shifted,
        "decoder_target_tokens": targets,
        "decoder_loss_weights": (targets != 0).astype(np.int32),
    }


@pytest.fixture(scope="module")
def loss_and_gradients(tiny_model, tiny_params):
    objective = Seq2SeqObjective(model=tiny_model)

    @jax.jit
    def run(batch):
        def total(params):
            loss, _, _ = objective.loss(params, {}, batch, jax.random.key(0), train=False)
            return loss.total, loss.weight

        (total_loss, weight), gradients = jax.value_and_grad(total, has_aux=True)(tiny_params)
        return total_loss, weight, gradients

    return lambda batch: run(jax.tree.map(jnp.asarray, batch))


def test_packed_rows_give_the_loss_and_gradients_of_padded_ones(packed, padded, loss_and_gradients):
    total, weight, gradients = loss_and_gradients(packed)
    expected_total, expected_weight, expected = loss_and_gradients(padded)
    assert weight == expected_weight == sum(targets for _, targets in SIZES)
    np.testing.assert_allclose(total, expected_total, rtol=1e-5)
    for path, value in jax.tree_util.tree_leaves_with_path(expected):
        got = gradients
        for key in path:
            got = got[key.key]
        scale = float(jnp.abs(value).max())  # float32 sums in another order
        np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-5 * scale, err_msg=str(path))


def test_without_segments_examples_of_a_row_would_see_each_other(
    packed, padded, loss_and_gradients
):
    unmarked = {name: value for name, value in packed.items() if "segment" not in name}
    total, _, _ = loss_and_gradients(unmarked)
    expected, _, _ = loss_and_gradients(padded)
    assert abs(total - expected) > 1e-2
