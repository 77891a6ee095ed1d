"""Tests of codet5p_jax.objectives.seq2seq."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.objectives.seq2seq import Seq2SeqObjective


def _batch(seed=0, rows=4):
    numbers = np.random.default_rng(seed)
    tokens = numbers.integers(5, 400, (rows, 9)).astype(np.int32)
    targets = numbers.integers(5, 400, (rows, 6)).astype(np.int32)
    targets[0, 4:] = 0
    return {
        "encoder_input_tokens": jnp.asarray(tokens),
        "decoder_input_tokens": jnp.pad(jnp.asarray(targets)[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": jnp.asarray(targets),
        "decoder_loss_weights": jnp.asarray(targets != 0).astype(jnp.int32),
    }


def test_loss_is_the_mean_cross_entropy_of_the_logits(tiny_model, tiny_params, rng):
    batch = _batch()
    loss, metrics, _ = Seq2SeqObjective(model=tiny_model).loss(
        tiny_params, {}, batch, rng, train=False
    )
    logits = tiny_model.apply(
        {"params": tiny_params}, batch["encoder_input_tokens"], batch["decoder_input_tokens"]
    )
    probabilities = np.exp(np.asarray(logits, np.float64))
    probabilities /= probabilities.sum(-1, keepdims=True)
    targets, weights = (
        np.asarray(batch[f"decoder_{k}"]) for k in ("target_tokens", "loss_weights")
    )
    nats = -np.log(np.take_along_axis(probabilities, targets[..., None], -1)[..., 0])
    np.testing.assert_allclose(loss.compute(), (nats * weights).sum() / weights.sum(), rtol=1e-5)
    assert float(metrics["nonpadding_tokens"].total) == 4 * 9 + 4 * 6 - 2


def test_losses_of_microbatches_add_up(tiny_model, tiny_params, rng):
    objective, batch = Seq2SeqObjective(model=tiny_model), _batch()
    whole = objective.loss(tiny_params, {}, batch, rng, train=False)[0]
    halves = [
        objective.loss(
            tiny_params, {}, jax.tree.map(lambda x, r=rows: x[r], batch), rng, train=False
        )[0]
        for rows in (slice(0, 1), slice(1, 4))
    ]
    np.testing.assert_allclose((halves[0] + halves[1]).compute(), whole.compute(), rtol=1e-5)


@pytest.mark.parametrize("name", ["microbatches", "chunk_length"])
def test_less_than_one_part_is_refused(tiny_model, name):
    with pytest.raises(ValueError, match=rf"{name} is 0; .* 1 or more.* Set {name.upper()}"):
        Seq2SeqObjective(model=tiny_model, **{name: 0})


@pytest.mark.parametrize("name", ["label_smoothing", "z_loss"])
def test_a_share_below_zero_is_refused(tiny_model, name):
    with pytest.raises(ValueError, match=rf"{name} is -0\.5; .* Set {name.upper()}"):
        Seq2SeqObjective(model=tiny_model, **{name: -0.5})


def test_microbatches_change_neither_loss_nor_gradients(tiny_model, tiny_params, rng):
    def values(objective):
        def total(params):
            loss, metrics, _ = objective.loss(params, {}, _batch(), rng, train=False)
            return loss.compute(), {name: mean.compute() for name, mean in metrics.items()}

        return jax.jit(jax.value_and_grad(total, has_aux=True))(tiny_params)

    whole = Seq2SeqObjective(model=tiny_model, label_smoothing=0.1, z_loss=1e-3)
    parts = dataclasses.replace(whole, microbatches=2, chunk_length=4)
    # float32 sums in another order
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        values(parts),
        values(whole),
    )


def test_chunks_change_nothing(tiny_model, tiny_params, rng):
    objective = Seq2SeqObjective(model=tiny_model)
    chunked = dataclasses.replace(objective, chunk_length=4)
    losses = [o.loss(tiny_params, {}, _batch(), rng, train=False)[0] for o in (objective, chunked)]
    np.testing.assert_allclose(losses[0].total, losses[1].total, rtol=1e-6)


def test_label_smoothing_and_z_loss_see_the_real_vocabulary_alone(tiny_model, tiny_params, rng):
    batch, config = _batch(), tiny_model.config
    assert config.padded_vocab_size > config.vocab_size
    objective = Seq2SeqObjective(model=tiny_model, label_smoothing=0.1, z_loss=0.01, chunk_length=4)
    loss, metrics, _ = objective.loss(tiny_params, {}, batch, rng, train=False)
    logits = np.asarray(
        tiny_model.apply(
            {"params": tiny_params}, batch["encoder_input_tokens"], batch["decoder_input_tokens"]
        ),
        np.float64,
    )[..., : config.vocab_size]
    log_normalizer = np.log(np.exp(logits).sum(-1))
    targets, weights = (
        np.asarray(batch[f"decoder_{k}"]) for k in ("target_tokens", "loss_weights")
    )
    nats = log_normalizer - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    smoothed = 0.9 * nats + 0.1 * (log_normalizer - logits.mean(-1))
    expected = ((smoothed + 0.01 * log_normalizer**2) * weights).sum() / weights.sum()
    np.testing.assert_allclose(loss.compute(), expected, rtol=1e-5)
    np.testing.assert_allclose(
        metrics["cross_entropy"].compute(), (nats * weights).sum() / weights.sum(), rtol=1e-5
    )
