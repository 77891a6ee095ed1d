"""Tests of codet5p_jax.training.initialization."""

import numpy as np
import pytest

from codet5p_jax.training.initialization import (
    language_models,
    read_origin,
    transfer_params,
    write_origin,
)


def _params(vocab, width=2, head=False):
    rows = np.arange(vocab * width, dtype=np.float32).reshape(vocab, width)
    params = {"token_embedder": {"embedding": rows}, "encoder": {"scale": np.ones(width)}}
    return {**params, "projection": {"bias": np.zeros(3)}} if head else params


def test_new_vocabulary_rows_become_the_mean_row():
    old = _params(vocab=6)  # four real rows, two of padding
    result = transfer_params(_params(vocab=8, head=True), old, vocab_size=7, source_vocab_size=4)
    table = result.params["token_embedder"]["embedding"]
    mean = old["token_embedder"]["embedding"][:4].mean(axis=0)
    np.testing.assert_array_equal(table[:4], old["token_embedder"]["embedding"][:4])
    np.testing.assert_array_equal(table[4:7], [mean] * 3)
    np.testing.assert_array_equal(table[7:], 0.0)
    assert result.summary() == {
        "fresh": ["projection/bias"],
        "unused": [],
        "extended_rows": (4, 7),
    }


def test_what_has_no_place_is_listed():
    result = transfer_params(
        _params(vocab=4), _params(vocab=4, head=True), vocab_size=4, source_vocab_size=4
    )
    assert result.unused == ["projection/bias"]


@pytest.mark.parametrize(
    "source, size, message",
    [
        (_params(vocab=4, width=3), 4, r"token_embedder/embedding has shape \(4, 3\).*\(4, 2\)"),
        (_params(vocab=9), 9, r"vocabulary of 9, the model 4"),
        ({"other": {"w": np.ones(1)}}, 4, r"shares no parameter with the model; it holds other"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(source, size, message):
    with pytest.raises(ValueError, match=message):
        transfer_params(_params(vocab=4), source, vocab_size=4, source_vocab_size=size)


def test_where_parameters_come_from_is_read_as_it_was_written(tmp_path):
    assert read_origin(tmp_path) is None
    transfer = transfer_params(
        _params(vocab=8, head=True), _params(vocab=6), vocab_size=7, source_vocab_size=4
    )
    write_origin(tmp_path, "/runs/stage1", transfer, metadata={})
    assert read_origin(tmp_path) == {
        "path": "/runs/stage1",
        "fresh": ["projection/bias"],
        "unused": [],
        "extended_rows": [4, 7],
    }


def test_the_language_models_of_a_checkpoint_are_handed_on_from_run_to_run(tmp_path):
    assert language_models({"initial_checkpoint": None}) is None
    made = {"encoder": {"name": "codegen-350M"}, "decoder": {"name": "codegen-2B"}, "seed": 0}
    same = _params(vocab=4)
    transfer = transfer_params(same, same, vocab_size=4, source_vocab_size=4)
    metadata = {"initialized_from": made}
    for _ in range(2):  # stage 1, then instruction tuning
        assert language_models(metadata) == made
        write_origin(tmp_path, "/runs/before", transfer, metadata=metadata)
        metadata = {"initial_checkpoint": read_origin(tmp_path)}
    assert language_models(metadata) == made
