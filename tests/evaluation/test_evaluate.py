"""Tests of codet5p_jax.evaluation.evaluate: everything at once, on a tiny random model."""

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from codet5p_jax.evaluation.evaluate import Evaluation, HeldOutData, HeldOutStream, evaluate
from codet5p_jax.evaluation.losses import TrainedModel
from codet5p_jax.evaluation.terminal_table import evaluation_table
from codet5p_jax.models.codet5p import CodeT5p

CONFIG = Evaluation(
    text_length=12,
    code_length=24,
    rerank_queries=4,
    rerank_candidates=3,
    matching_texts=5,
    samples=2,
    sample_least_tokens=8,
)


@pytest.fixture(scope="session")
def data(held_out):
    tokens = np.random.default_rng(0).integers(5, 400, [2, 6]).astype(np.int32)
    batch = {
        "encoder_input_tokens": tokens,
        "decoder_input_tokens": tokens,
        "decoder_target_tokens": tokens,
        "decoder_loss_weights": np.ones([2, 6], np.int32),
    }
    stream = HeldOutStream(
        objective="unimodal_seq2seq_clm", batches=[batch], unigram=np.full(503, -np.log(503))
    )
    return HeldOutData(streams=[stream], pairs=held_out)


@pytest.fixture(scope="session")
def results(trained, tokenizer, data):
    return evaluate(trained, tokenizer, before=trained, data=data, config=CONFIG)


def test_results_hold_every_part_and_are_json(results):
    assert json.loads(json.dumps(results)) == results
    assert [row["objective"] for row in results["losses"]] == ["unimodal_seq2seq_clm"]
    assert [row["direction"] for row in results["translation"]] == ["text_to_code", "code_to_text"]
    rankings = ["random", "bm25", "before", "after", "after", "reranked"]
    assert [row["ranking"] for row in results["retrieval"]] == rankings
    assert [row["queries"] for row in results["retrieval"]] == [10, 10, 10, 10, 4, 4]
    assert {row["codes"] for row in results["retrieval"]} == {10}
    assert [row["negatives"] for row in results["matching"]] == ["random", "hard"]


def test_the_setting_says_how_many_were_taken_of_how_many(results):
    setting = results["setting"]
    assert (setting["pairs"], setting["pairs_available"]) == (10, 12)
    assert setting["seed"] == 0 and setting["rerank_candidates"] == 3


def test_samples_are_the_first_pairs_that_are_long_enough(results, held_out):
    names = [sample["source"].rpartition(" ")[2] for sample in results["samples"]]
    assert names == [pair.name for pair in held_out.pairs[:4]]
    assert [s["task"] for s in results["samples"]] == ["code_to_text"] * 2 + ["completion"] * 2
    described, completed = results["samples"][0], results["samples"][2]
    assert "output_before" not in described
    assert completed["output_before"] == completed["output"]  # the same model twice
    assert described["reference"] == held_out.pairs[0].text
    assert completed["prompt"] + completed["reference"] == held_out.pairs[2].code


def test_evaluating_twice_gives_the_same_numbers(results, trained, tokenizer, data):
    assert evaluate(trained, tokenizer, before=trained, data=data, config=CONFIG) == results


def test_a_model_without_heads_and_without_predecessor_is_evaluated_as_far_as_it_goes(
    trained, tokenizer, data
):
    config = dataclasses.replace(
        trained.model.config, matching_head=False, projection_dim=None, vocab_size=500
    )
    model = TrainedModel(model=CodeT5p(config), params=trained.params)
    results = evaluate(model, tokenizer, before=None, data=data, config=CONFIG)
    assert [row["ranking"] for row in results["retrieval"]] == ["random", "bm25", "after"]
    assert results["matching"] == []
    assert {sample["task"] for sample in results["samples"]} == {"completion"}
    assert "before" not in results["losses"][0]
    _print(results)


def test_table_shows_good_numbers_and_bad_ones(results):
    worse = {**results["losses"][0], "after": 7.0, "unigram": 6.0}
    text = _print({**results, "losses": [worse]})
    assert "! 7.000" in text
    for expected in ("unigram 6.0", "BM25", "cosine", "hard negatives", "among 10 codes"):
        assert expected in text, expected


def _print(results):
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(evaluation_table(results))
    return console.export_text()
