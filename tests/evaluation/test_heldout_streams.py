"""Tests of codet5p_jax.evaluation.heldout_streams, on a corpus of the standard library."""

import numpy as np
import pytest

import tasks
from codet5p_jax.evaluation.heldout_streams import read_stream
from tests.corpora import corpus_dir, registry, tokenizer_dir  # noqa: F401

LENGTHS = {"inputs": 24, "targets": 20}


@pytest.fixture
def registered(registry, corpus_dir, tokenizer_dir):  # noqa: F811
    tasks.register(corpus_dir, tokenizer_dir)


def _read(**changes):
    arguments = {
        "task_feature_lengths": LENGTHS,
        "examples": 40,
        "unigram_examples": 64,
        "vocab_size": 503,
    }
    return read_stream("unimodal_seq2seq_clm", **{**arguments, **changes})


def test_stream_holds_whole_batches_of_the_test_split_and_a_unigram_model(registered):
    stream = _read()
    shapes = [batch["encoder_input_tokens"].shape for batch in stream.batches]
    assert shapes == [(32, 24), (32, 24)]
    assert stream.objective == "unimodal_seq2seq_clm"
    np.testing.assert_allclose(np.exp(stream.unigram).sum(), 1, rtol=1e-6)


def test_reading_twice_gives_the_same_examples(registered):
    first, second = _read(), _read()
    for name in first.batches[0]:
        np.testing.assert_array_equal(first.batches[0][name], second.batches[0][name])
    np.testing.assert_array_equal(first.unigram, second.unigram)


def test_test_split_differs_from_training(registered):
    held_out, training = _read(), _read(split="train")
    name = "encoder_input_tokens"
    assert not np.array_equal(held_out.batches[0][name], training.batches[0][name])
