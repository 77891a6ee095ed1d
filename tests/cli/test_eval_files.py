"""Tests of `codet5p eval_files`."""

import json
import shutil

import pytest

from tests.codegen_model import save_codegen_run
from tests.corpora import codegen, codegen_dir, corpus_dir, registry  # noqa: F401


def _eval_files(codet5p, model_dir, corpus, *more, tokenizer=None):
    return codet5p(
        "eval_files",
        f"--model_dir={model_dir}",
        f"--corpus={corpus}",
        f"--tokenizer={tokenizer or model_dir.parent / 'its_tokenizer'}",
        "--examples=8",
        "--lines=6",
        *more,
    )


def _with_lengths(model_dir, tmp_path, **lengths):
    """Returns a copy of a MODEL_DIR whose metadata tells these lengths too."""
    copy = shutil.copytree(model_dir, tmp_path / "copy")
    [path] = copy.glob("checkpoint_*/metadata/metadata")
    metadata = json.loads(path.read_text())
    metadata["task_feature_lengths"] |= {k: {"inputs": 1, "targets": v} for k, v in lengths.items()}
    path.write_text(json.dumps(metadata))
    shutil.copytree(model_dir.parent / "its_tokenizer", tmp_path / "its_tokenizer")
    return copy


@pytest.mark.slow
def test_losses_have_the_lengths_of_the_base_and_lines_are_completed(
    registry,  # noqa: F811
    corpus_dir,  # noqa: F811
    model_dir,
    codet5p,
    tmp_path,
):
    base = _with_lengths(model_dir, tmp_path, decoder_clm=64)
    out = tmp_path / "files.json"
    code, printed, _ = _eval_files(
        codet5p, base, corpus_dir, f"--lengths_of={base}", f"--completion={base}", f"--out={out}"
    )
    assert code == 0
    for expected in ("causal LM, decoder, loss", "line completion, exact match", "6 lines"):
        assert expected in printed
    result = json.loads(out.read_text())
    assert [row["objective"] for row in result["losses"]] == [
        "unimodal_span_denoising",
        "unimodal_seq2seq_clm",
        "unimodal_decoder_clm",
    ]
    assert result["completion"]["setting"]["length"] == 64
    assert result["completion"]["examples"] == 6


@pytest.mark.slow
def test_a_codegen_based_model_completes_lines(
    registry,  # noqa: F811
    corpus_dir,  # noqa: F811
    codegen,  # noqa: F811
    codegen_dir,  # noqa: F811
    codet5p,
    tmp_path,
):
    lengths = {"decoder_clm": {"inputs": 1, "targets": 64}}
    run = save_codegen_run(tmp_path / "run", codegen, codegen_dir, **lengths)
    code, _, error = _eval_files(codet5p, run, corpus_dir, tokenizer=codegen_dir)
    assert code == 0, error
    result = json.loads((run / "eval_files.json").read_text())
    assert [row["objective"] for row in result["losses"]] == ["unimodal_decoder_clm"]
    assert result["completion"]["examples"] == 6 and result["completion"]["tokens"] > 6


@pytest.mark.slow
def test_a_model_that_was_not_trained_to_complete_is_an_error(
    registry,  # noqa: F811
    corpus_dir,  # noqa: F811
    model_dir,
    codet5p,
):
    code, _, error = _eval_files(codet5p, model_dir, corpus_dir)
    assert code == 2 and "cannot complete lines. Finetune it with" in error


def test_counts_below_one_are_an_error(model_dir, codet5p, tmp_path):
    code, _, error = _eval_files(codet5p, model_dir, tmp_path, "--lines=0")
    assert code == 2 and "must be 1 or more, got 0" in error
