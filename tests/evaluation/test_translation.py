"""Tests of codet5p_jax.evaluation.translation."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.evaluation.losses import TrainedModel
from codet5p_jax.evaluation.retrieval_quality import TokenizedPairs
from codet5p_jax.evaluation.translation import translation_rows
from tests.codegen_model import trained_codegen

TEXT_ID, CODE_ID = 501, 502


@pytest.fixture(params=["codet5", "codegen"])
def trained(request, tiny_model, tiny_params):
    """A model whose </s> is 2, and whose padding is 0, or 499 as 0 is a token."""
    if request.param == "codet5":
        return TrainedModel(model=tiny_model, params=tiny_params)
    ids = {"pad_id": 499, "start_id": 2, "bos_id": 2, "eos_id": 2, "clm_id": 3, "match_id": 500}
    return trained_codegen(types.SimpleNamespace(vocab_size=503, **ids))


def test_loss_is_that_of_each_pair_alone_by_numpys_softmax(trained):
    """The decoder reads its start, [CDEC] x y and is asked for x y </s>."""
    pad, start = trained.model.config.pad_id, trained.model.config.start_id
    texts = np.array([[1, 7, 8, 2, pad], [1, 9, 2, pad, pad]], np.int32)
    codes = np.array([[1, 20, 21, 2], [1, 30, 31, 2]], np.int32)
    rows = translation_rows(
        trained,
        TokenizedPairs(text_tokens=texts, code_tokens=codes, languages=["go", "go"]),
        text_id=TEXT_ID,
        code_id=CODE_ID,
    )

    def nats(source, first, target):
        decoder = jnp.array([[start, first, *target[:-1]]])
        variables = {"params": trained.params}
        logits = trained.model.apply(variables, jnp.asarray(source)[None], decoder)
        logits = np.asarray(logits, np.float64)[0, 1:]
        chosen = logits[np.arange(len(target)), target]
        return np.log(np.exp(logits).sum(axis=-1)) - chosen

    expected = {
        "text_to_code": [
            nats(texts[0], CODE_ID, [20, 21, 2]),
            nats(texts[1], CODE_ID, [30, 31, 2]),
        ],
        "code_to_text": [nats(codes[0], TEXT_ID, [7, 8, 2]), nats(codes[1], TEXT_ID, [9, 2])],
    }
    assert [row["direction"] for row in rows] == list(expected)
    for row in rows:
        values = np.concatenate(expected[row["direction"]])
        assert row["tokens"] == len(values)
        np.testing.assert_allclose(row["loss"], values.mean(), rtol=1e-5)  # float32 sums
