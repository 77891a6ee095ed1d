"""Tests of codet5p_jax.evaluation.losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.evaluation.losses import model_loss, stream_losses
from codet5p_jax.evaluation.metrics import unigram_log_probabilities


def _batch(seed, rows=3, inputs=6, targets=5, used=4):
    rng = np.random.default_rng(seed)
    target_tokens = rng.integers(5, 400, [rows, targets]).astype(np.int32)
    weights = np.ones([rows, targets], np.int32)
    weights[:, used:] = 0
    return {
        "encoder_input_tokens": rng.integers(5, 400, [rows, inputs]).astype(np.int32),
        "decoder_input_tokens": np.pad(target_tokens, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": target_tokens,
        "decoder_loss_weights": weights,
    }


def test_loss_is_the_mean_over_tokens_of_all_batches(trained):
    batches = [_batch(0, used=4), _batch(1, used=1)]
    nats, tokens = 0.0, 0
    for batch in batches:
        logits = trained.model.apply(
            {"params": trained.params},
            jnp.array(batch["encoder_input_tokens"]),
            jnp.array(batch["decoder_input_tokens"]),
        )
        log_probabilities = np.asarray(jax.nn.log_softmax(logits))
        for row, column in np.argwhere(batch["decoder_loss_weights"]):
            nats -= log_probabilities[row, column, batch["decoder_target_tokens"][row, column]]
            tokens += 1
    np.testing.assert_allclose(model_loss(trained, batches), nats / tokens, rtol=1e-5)


def test_row_holds_every_model_beside_the_unigram(trained):
    batches = [_batch(0)]
    row = stream_losses(
        "unimodal_span_denoising",
        batches,
        models={"before": trained, "after": trained},
        unigram=np.full(503, -np.log(503)),
    )
    assert row["tokens"] == 12 and row["objective"] == "unimodal_span_denoising"
    np.testing.assert_allclose(row["unigram"], np.log(503))
    assert row["before"] == row["after"] == model_loss(trained, batches)


def test_unigram_counts_training_targets_and_adds_one():
    batch = {
        "decoder_target_tokens": np.array([[1, 1, 3], [1, 0, 0]]),
        "decoder_loss_weights": np.array([[1, 1, 1], [1, 0, 0]]),
    }
    found = np.exp(unigram_log_probabilities([batch], vocab_size=4))
    np.testing.assert_allclose(found, [1 / 8, 4 / 8, 1 / 8, 2 / 8])  # (0, 3, 0, 1) + 1


def test_no_target_token_is_an_error_that_names_the_stream(trained):
    with pytest.raises(ValueError, match="no target token for span"):
        stream_losses("span", [_batch(0, used=0)], models={"a": trained}, unigram=np.zeros(503))
