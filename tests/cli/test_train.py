"""Tests of codet5p_jax.cli.train: what does not fit together is said before anything is written."""

import dataclasses

import pytest

from codet5p_jax.cli.train import _shared_config
from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.config import model_config
from codet5p_jax.objectives.bimodal import BimodalObjective
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.tokenizer import train_tokenizer
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["def mean(values):\n    return values\n" * 9], 270, min_frequency=2)


def _curriculum(objective, vocab_size):
    config = dataclasses.replace(model_config("codet5p_test"), vocab_size=vocab_size)
    stream = Stream(name="only", objective=objective(model=CodeT5p(config)), dataset=None)
    return Curriculum(phases=[Phase(name="all", steps=1, streams=[stream])])


def test_stage_1_trains_with_or_without_the_task_tokens(tokenizer):
    for size in (tokenizer.vocab_size, tokenizer.with_task_tokens().vocab_size):
        config = _shared_config(_curriculum(Seq2SeqObjective, size), tokenizer)
        assert config.vocab_size == size


def test_stage_2_needs_the_task_tokens(tokenizer):
    with pytest.raises(
        ValueError, match=rf"'only' asks with.*set it to {tokenizer.vocab_size + 3}"
    ):
        _shared_config(_curriculum(BimodalObjective, tokenizer.vocab_size), tokenizer)


def test_a_vocabulary_of_another_tokenizer_is_refused(tokenizer):
    with pytest.raises(ValueError, match=rf"vocab_size is 999.*has {tokenizer.vocab_size} ids"):
        _shared_config(_curriculum(Seq2SeqObjective, 999), tokenizer)
