"""Tests of `codet5p eval`."""

import json

import numpy as np
import pytest

from tests.codegen_model import save_codegen_run
from tests.corpora import codegen, codegen_dir, corpus_dir, registry  # noqa: F401

SMALL = ("--pairs=4", "--examples=8", "--rerank_queries=2", "--text_length=12", "--code_length=24")


def _eval(codet5p, model_dir, corpus, *more, tokenizer=None):
    tokenizer = tokenizer or model_dir.parent / "its_tokenizer"
    return codet5p(
        "eval",
        f"--model_dir={model_dir}",
        f"--corpus={corpus}",
        f"--tokenizer={tokenizer}",
        *SMALL,
        *more,
    )


@pytest.mark.slow
def test_eval_prints_a_table_and_writes_the_result(
    registry,  # noqa: F811
    corpus_dir,  # noqa: F811
    model_dir,
    codet5p,
    tmp_path,
):
    out = tmp_path / "evaluation.json"
    code, printed, _ = _eval(
        codet5p, model_dir, corpus_dir, f"--before={model_dir}", f"--out={out}"
    )
    assert code == 0
    for expected in ("Held-out pairs: the first 4 of", "BM25", "code_to_text", str(out)):
        assert expected in printed
    evaluation = json.loads(out.read_text())
    assert [row["objective"] for row in evaluation["losses"]] == [
        "unimodal_span_denoising",
        "unimodal_seq2seq_clm",
    ]
    assert "No losses of decoder_clm: no model given was trained on them" in printed
    assert evaluation["models"]["after"]["directory"] == str(model_dir)
    assert evaluation["setting"]["text_length"] == 12
    assert evaluation["seconds"] > 0


@pytest.mark.slow
def test_a_codegen_based_model_is_evaluated_with_its_tokenizer(
    registry,  # noqa: F811
    corpus_dir,  # noqa: F811
    codegen,  # noqa: F811
    codegen_dir,  # noqa: F811
    codet5p,
    tmp_path,
):
    lengths = {"span_denoising": {"inputs": 48, "targets": 20}}
    run = save_codegen_run(tmp_path / "run", codegen, codegen_dir, **lengths)
    code, _, error = _eval(codet5p, run, corpus_dir, tokenizer=codegen_dir)
    assert code == 0, error
    evaluation = json.loads((run / "evaluation.json").read_text())
    [losses] = evaluation["losses"]
    assert losses["objective"] == "unimodal_span_denoising"
    assert 0 < losses["unigram"] < np.log(codegen.vocab_size + 9) < losses["after"]
    assert evaluation["matching"] == []  # it has no such head
    assert {row["ranking"] for row in evaluation["retrieval"]} == {"random", "bm25", "after"}
    assert {sample["task"] for sample in evaluation["samples"]} == {"code_to_text", "completion"}


def test_another_tokenizer_than_that_of_the_training_is_an_error(model_dir, codet5p, tmp_path):
    from codet5p_jax.tokenizer import train_tokenizer

    train_tokenizer(["other words\n" * 9], 265, min_frequency=2).save(tmp_path)
    code, _, error = _eval(codet5p, model_dir, tmp_path, tokenizer=tmp_path)
    assert code == 2
    assert "was trained with tokenizer" in error and "Give the tokenizer of the training" in error


def test_a_directory_without_checkpoint_is_an_error(model_dir, codet5p, tmp_path):
    code, _, error = codet5p(
        "eval",
        f"--model_dir={tmp_path}",
        f"--corpus={tmp_path}",
        f"--tokenizer={model_dir.parent / 'its_tokenizer'}",
    )
    assert code == 2 and "no checkpoint" in error


def test_lengths_that_training_did_not_record_must_be_given(model_dir, codet5p, tmp_path):
    code, _, error = codet5p(
        "eval",
        f"--model_dir={model_dir}",
        f"--corpus={tmp_path}",
        f"--tokenizer={model_dir.parent / 'its_tokenizer'}",
    )
    assert code == 2 and "give both --text_length and --code_length" in error


def test_a_directory_without_corpus_is_an_error(model_dir, codet5p, tmp_path):
    code, _, error = _eval(codet5p, model_dir, tmp_path)
    assert code == 2 and "No code_functions" in error


def test_counts_below_one_are_an_error(model_dir, codet5p, tmp_path):
    code, _, error = _eval(codet5p, model_dir, tmp_path, "--pairs=0")
    assert code == 2 and "must be 1 or more, got 0" in error
