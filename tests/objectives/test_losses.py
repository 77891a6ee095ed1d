"""Tests of codet5p_jax.objectives.losses, against torch and values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from codet5p_jax.objectives.losses import (
    chunked_token_cross_entropy,
    contrastive_loss,
    matching_loss,
    token_cross_entropy,
)


def _tokens(seed=0, batch=3, length=7, vocab=11):
    numbers = np.random.default_rng(seed)
    logits = numbers.normal(size=(batch, length, vocab)).astype(np.float32)
    targets = numbers.integers(0, vocab, (batch, length)).astype(np.int32)
    weights = (numbers.random((batch, length)) > 0.3).astype(np.float32)
    return jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(weights)


@pytest.mark.parametrize(("label_smoothing", "z_loss"), [(0.0, 0.0), (0.1, 0.0), (0.1, 0.02)])
def test_token_cross_entropy_and_its_gradient_match_torch(label_smoothing, z_loss):
    logits, targets, weights = _tokens()

    def mean(logits):
        return token_cross_entropy(
            logits, targets, weights, label_smoothing=label_smoothing, z_loss=z_loss
        ).loss.compute()

    value, gradient = jax.value_and_grad(mean)(logits)

    torch_logits = torch.tensor(np.array(logits), requires_grad=True)
    each = torch.nn.functional.cross_entropy(
        torch_logits.reshape(-1, 11),
        torch.tensor(np.array(targets)).long().reshape(-1),
        reduction="none",
        label_smoothing=label_smoothing,
    )
    each = each + z_loss * torch.logsumexp(torch_logits.reshape(-1, 11), dim=-1) ** 2
    expected = (each * torch.tensor(np.array(weights)).reshape(-1)).sum() / float(weights.sum())
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, torch_logits.grad.numpy(), atol=1e-6)


def test_z_loss_adds_the_squared_log_normalizer():
    logits, targets, weights = _tokens()
    plain = token_cross_entropy(logits, targets, weights).loss.total
    with_z = token_cross_entropy(logits, targets, weights, z_loss=0.01).loss.total
    squares = np.log(np.exp(np.asarray(logits, np.float64)).sum(-1)) ** 2
    np.testing.assert_allclose(with_z - plain, 0.01 * (squares * weights).sum(), rtol=1e-4)


def test_label_smoothing_ignores_padded_columns():
    logits, targets, weights = _tokens()
    padded = jnp.concatenate([logits, jnp.full((3, 7, 5), -1e9)], axis=-1)
    smoothed = token_cross_entropy(logits, targets, weights, label_smoothing=0.1)
    with_padding = token_cross_entropy(padded, targets, weights, label_smoothing=0.1, vocab_size=11)
    np.testing.assert_allclose(with_padding.loss.total, smoothed.loss.total, rtol=1e-6)


def test_accuracy_counts_the_most_probable_token():
    logits = jnp.array([[[3.0, 1.0], [0.0, 2.0], [5.0, 0.0]]])
    result = token_cross_entropy(logits, jnp.array([[0, 0, 0]]), jnp.array([[1.0, 1.0, 0.0]]))
    assert float(result.accuracy.compute()) == 0.5


@pytest.mark.parametrize("chunk_length", [1, 3, 7, 100])
def test_chunked_equals_whole_with_gradients(chunk_length):
    numbers = np.random.default_rng(1)
    hidden = jnp.asarray(numbers.normal(size=(3, 7, 4)), jnp.float32)
    kernel = jnp.asarray(numbers.normal(size=(4, 11)), jnp.float32)
    _, targets, weights = _tokens()

    def loss(hidden, kernel, chunk_length):
        return chunked_token_cross_entropy(
            lambda kernel, x: x @ kernel,
            kernel,
            hidden,
            targets,
            weights,
            chunk_length=chunk_length,
            z_loss=1e-3,
            label_smoothing=0.1,
        ).loss.compute()

    whole = jax.value_and_grad(loss, argnums=(0, 1))(hidden, kernel, None)
    chunked = jax.value_and_grad(loss, argnums=(0, 1))(hidden, kernel, chunk_length)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, chunked)


@pytest.mark.parametrize("chunk_length", [None, 3])
def test_chunked_loss_of_a_padded_vocabulary_matches_torch_without_the_padding(chunk_length):
    numbers = np.random.default_rng(2)
    hidden = numbers.normal(size=(3, 7, 4)).astype(np.float32)
    kernel = numbers.normal(size=(4, 11)).astype(np.float32)
    _, targets, weights = _tokens()

    def logits(kernel, hidden):
        return jnp.where(jnp.arange(16)[None, None] < 11, hidden @ kernel, -1e9)

    def loss(hidden, kernel):
        return chunked_token_cross_entropy(
            logits,
            kernel,
            hidden,
            targets,
            weights,
            chunk_length=chunk_length,
            label_smoothing=0.1,
            z_loss=0.02,
            vocab_size=11,
        ).loss.total

    padded = jnp.asarray(np.concatenate([kernel, np.ones((4, 5), np.float32)], axis=-1))
    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(jnp.asarray(hidden), padded)

    torch_hidden, torch_kernel = (torch.tensor(x, requires_grad=True) for x in (hidden, kernel))
    log_probabilities = torch.log_softmax(torch_hidden @ torch_kernel, dim=-1)
    wanted = torch.full((3, 7, 11), 0.1 / 11)
    at = torch.tensor(np.array(targets)).long()[..., None]
    wanted.scatter_add_(-1, at, torch.full(at.shape, 0.9))
    each = -(wanted * log_probabilities).sum(-1)
    each = each + 0.02 * torch.logsumexp(torch_hidden @ torch_kernel, dim=-1) ** 2
    expected = (each * torch.tensor(np.array(weights))).sum()
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    # float32 sums of some twenty tokens
    np.testing.assert_allclose(gradients[0], torch_hidden.grad.numpy(), atol=1e-5)
    np.testing.assert_allclose(gradients[1][:, :11], torch_kernel.grad.numpy(), atol=1e-5)
    assert not np.any(gradients[1][:, 11:])


def test_contrastive_loss_and_its_gradients_match_torch():
    numbers = np.random.default_rng(2)
    queries, keys, noise = (numbers.normal(size=(n, 4)).astype(np.float32) for n in (3, 8, 3))
    targets = np.array(jax.nn.softmax(noise @ keys.T, axis=-1))
    temperature = 0.3

    def mean(queries, temperature):
        return contrastive_loss(
            queries, jnp.asarray(keys), jnp.asarray(targets), temperature
        ).compute()

    value, gradients = jax.value_and_grad(mean, argnums=(0, 1))(
        jnp.asarray(queries), jnp.float32(temperature)
    )
    torch_queries = torch.tensor(queries, requires_grad=True)
    torch_temperature = torch.tensor(temperature, requires_grad=True)
    logits = torch_queries @ torch.tensor(keys).T / torch_temperature
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(targets))
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradients[0], torch_queries.grad.numpy(), atol=1e-5)
    np.testing.assert_allclose(gradients[1], torch_temperature.grad.item(), rtol=1e-4)


def test_contrastive_loss_of_identical_keys_is_log_of_their_number():
    queries = jnp.ones([2, 4]) / 2.0
    keys = jnp.ones([6, 4]) / 2.0

    loss = contrastive_loss(queries, keys, jnp.eye(2, 6), jnp.float32(0.07))

    np.testing.assert_allclose(loss.compute(), np.log(6), rtol=1e-6)


def test_contrastive_loss_adds_up_over_microbatches(rng):
    queries, keys = jax.random.normal(rng, [2, 8, 4])
    targets = jnp.eye(8)
    whole = contrastive_loss(queries, keys, targets, jnp.float32(0.5))
    parts = [
        contrastive_loss(queries[rows], keys, targets[rows], jnp.float32(0.5))
        for rows in (slice(0, 3), slice(3, 8))  # unequal on purpose
    ]
    np.testing.assert_allclose((parts[0] + parts[1]).compute(), whole.compute(), rtol=1e-6)


def test_contrastive_loss_rejects_a_transposed_target():
    with pytest.raises(Exception, match="targets"):
        contrastive_loss(jnp.ones([2, 4]), jnp.ones([6, 4]), jnp.ones([6, 2]), jnp.float32(1.0))


def test_matching_loss_leaves_weightless_rows_out():
    logits = jnp.array([[0.0, 2.0], [0.0, 2.0], [9.0, 0.0]])
    result = matching_loss(logits, jnp.array([1, 0, 1]), jnp.array([1.0, 1.0, 0.0]))
    by_hand = (np.log(1 + np.exp(-2)) + np.log(1 + np.exp(2))) / 2
    np.testing.assert_allclose(result.loss.compute(), by_hand, rtol=1e-6)
    assert float(result.accuracy.compute()) == 0.5
