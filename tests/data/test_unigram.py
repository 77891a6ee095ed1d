import numpy as np
import pytest

from codet5p_jax.data.unigram import unigram_log_probs


def _batch(targets, weights):
    return {
        "decoder_target_tokens": np.array([targets]),
        "decoder_loss_weights": np.array([weights]),
    }


def test_log_probs_are_those_of_the_counts_plus_one():
    batches = [_batch([1, 2, 2, 0], [1, 1, 1, 0]), _batch([2, 3], [1, 0])]
    log_probs = unigram_log_probs(batches, 5)
    np.testing.assert_allclose(np.exp(log_probs), np.array([1, 2, 4, 1, 1]) / 9, rtol=1e-12)


def test_no_batches_give_the_uniform_distribution():
    np.testing.assert_allclose(unigram_log_probs([], 4), np.log(1 / 4))


def test_a_target_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="Target 7 is no id of a vocabulary of 5"):
        unigram_log_probs([_batch([7], [1])], 5)
