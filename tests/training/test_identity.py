"""Tests of codet5p_jax.training.identity."""

import pytest

from codet5p_jax.training.identity import IdentityError, claim_model_dir

IDENTITY = {"model": {"embed_dim": 192, "vocab_size": 8100}, "tokenizer": "abc", "corpus": "def"}


def test_the_same_run_may_go_on(tmp_path):
    claim_model_dir(tmp_path / "run", IDENTITY)
    claim_model_dir(tmp_path / "run", IDENTITY)


def test_another_run_is_told_what_differs_and_changes_nothing(tmp_path):
    claim_model_dir(tmp_path, IDENTITY)
    before = (tmp_path / "run.json").read_bytes()
    other = {**IDENTITY, "model": {"embed_dim": 256, "vocab_size": 8100}, "corpus": "xyz"}
    with pytest.raises(IdentityError) as raised:
        claim_model_dir(tmp_path, other)
    message = str(raised.value)
    assert "model.embed_dim: it holds 192, this run has 256" in message
    assert "corpus: it holds 'def', this run has 'xyz'" in message
    assert "vocab_size" not in message and "INITIAL_CHECKPOINT_PATH" in message
    assert (tmp_path / "run.json").read_bytes() == before
