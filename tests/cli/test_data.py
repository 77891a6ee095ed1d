"""Tests of codet5p_jax.cli.data."""

import json

import pytest

from codet5p_jax.cli.data import parse_lengths
from tests.corpora import (  # noqa: F401
    codegen_dir,
    corpus_dir,
    registry,
    tokenizer,
    tokenizer_dir,
)

pytestmark = pytest.mark.usefixtures("registry")
STAGE1 = "--gin_file=recipes/quickstart_stage1.gin"


@pytest.fixture
def folders(corpus_dir, tokenizer_dir):  # noqa: F811
    return [f"--corpus_dir={corpus_dir}", f"--tokenizer_dir={tokenizer_dir}"]


def test_examples_of_a_task_are_printed_with_sentinels(codet5p, folders):
    lengths = "--lengths=inputs=96,targets=64"
    code, shown, _ = codet5p(
        "data", "preview", "--task=unimodal_span_denoising", "--n=2", lengths, *folders
    )
    assert code == 0
    assert "── 1  unimodal_span_denoising_" in shown and "── 2  " in shown and "── 3" not in shown
    assert "inputs, " in shown and "<extra_id_0>" in shown


def test_lengths_are_those_of_the_recipe(codet5p, folders):
    words = ("data", "preview", "--task=unimodal_decoder_clm_python", "--n=1", *folders)
    _, short, _ = codet5p(*words, STAGE1)
    _, long, _ = codet5p(*words)
    assert "inputs, 1 token\n[CLM]\n" in short
    tokens = [int(t.split("targets, ")[1].split(" ")[0].replace(",", "")) for t in (short, long)]
    assert tokens[0] <= 128 < tokens[1]


def test_a_recipe_registers_what_it_trains_on(codet5p, corpus_dir, tokenizer_dir):  # noqa: F811
    bindings = (f"--gin.CORPUS_DIR={corpus_dir}", f"--gin.TOKENIZER_DIR={tokenizer_dir}")
    code, shown, _ = codet5p(
        *("data", "preview", "--task=unimodal_span_denoising_ruby", "--n=1", STAGE1),
        *(*bindings, "--gin.MASK_WHOLE_WORDS=False"),
    )
    assert code == 0 and "<extra_id_0>" in shown


def test_instructions_are_shown_from_their_file(codet5p, folders, tmp_path):
    records = [{"instruction": f"Say {i}.", "output": f"number {i}"} for i in range(30)]
    (tmp_path / "say.json").write_text(json.dumps(records))
    _, shown, _ = codet5p(
        *("data", "preview", "--task=instruction", "--n=1", *folders),
        f"--instructions=say={tmp_path / 'say.json'}",
    )
    assert "instruction_say" in shown and "### Response:</s>\ntargets without loss, " in shown
    assert "### Response:\ntargets with loss, " in shown and "tokens\nnumber " in shown


def test_gin_binds_files_of_instructions(codet5p, folders, tmp_path):
    records = [{"instruction": f"Say {i}.", "output": f"number {i}"} for i in range(30)]
    (tmp_path / "say.json").write_text(json.dumps(records))
    files = {"say": str(tmp_path / "say.json")}
    code, shown, error = codet5p(
        *("data", "preview", "--task=instruction_say", "--n=1", STAGE1, *folders),
        f"--gin.train_command.train.instruction_files={files}",
    )
    assert code == 0 and "targets with loss, " in shown, error


def test_instructions_are_shown_without_a_corpus_with_codegens_tokenizer(
    codet5p,
    codegen_dir,  # noqa: F811
    tmp_path,
):
    records = [{"instruction": f"Say {i}.", "output": f"number {i}"} for i in range(30)]
    (tmp_path / "say.json").write_text(json.dumps(records))
    code, shown, error = codet5p(
        *("data", "preview", "--task=instruction", "--n=1", f"--tokenizer_dir={codegen_dir}"),
        f"--instructions=say={tmp_path / 'say.json'}",
    )
    assert code == 0, error
    inputs, _, rest = shown.partition("targets without loss, ")
    read, _, answered = rest.partition("targets with loss, ")
    assert "\nBelow is an" in inputs and inputs.endswith("### Response:\n")
    assert "\nBelow is an" in read and read.endswith("### Response:\n")
    assert "\nnumber " in answered and answered.strip().endswith("<|endoftext|>")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task=unimodal"], "Give --corpus_dir (or --instructions) and --tokenizer"),
        (["--task=unimodal", "--n=0"], "--n is 0; it must be 1 or more"),
        (["--task=unimodal", "--gin_file=recipes/stage3.gin"], "No gin file 'recipes/stage3.gin'"),
        (["--task=unimodal", "--gin_file=models/codet5p_220m.gin"], "is no recipe of `codet5p tr"),
        (["--task=unimodal", STAGE1], "The recipe needs CORPUS_DIR, TOKENIZER_DIR"),
        (
            [
                *("--task=instruction", "--gin_file=recipes/quickstart_instruct.gin"),
                *("--tokenizer_dir=t", "--gin.INITIAL_CHECKPOINT_PATH=i"),
                "--gin.INSTRUCTION_FILES=made.json",
            ],
            "INSTRUCTION_FILES is a dict NAME -> path, got 'made.json'. Write --gin.",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line_and_code_2(codet5p, words, message):
    code, _, error = codet5p("data", "preview", *words)
    assert code == 2 and message in error


def test_an_unknown_task_names_the_nearest(codet5p, folders):
    code, _, error = codet5p("data", "preview", "--task=unimodl", *folders)
    assert code == 2 and "Did you mean 'unimodal'" in error


def test_lengths_of_another_form_are_refused():
    assert parse_lengths("inputs=512,targets=128") == {"inputs": 512, "targets": 128}
    with pytest.raises(ValueError, match="--lengths=inputs is not of the form inputs=512,targets"):
        parse_lengths("inputs")
