"""Tests of codet5p_jax.evaluation.completion, on the standard library's own source."""

import dataclasses
import pathlib
import sysconfig

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.evaluation.completion import (
    CompletionSetting,
    SourceFile,
    complete_lines,
    completion_examples,
    completion_loss,
    completion_quality,
    edit_similarity,
    first_line,
    read_files,
)
from codet5p_jax.evaluation.losses import TrainedModel
from codet5p_jax.tokenizer import load_tokenizer, train_tokenizer
from tests.codegen_folder import write_codegen_folder
from tests.codegen_model import trained_codegen

SETTING = CompletionSetting(
    length=44, line_tokens=20, least_context=8, lines_per_file=3, examples=7, batch_size=4
)


@pytest.fixture(scope="module")
def files():
    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    return [
        SourceFile(code=(folder / name).read_text(), language="python", source=f"stdlib/{name}")
        for name in ("bisect.py", "colorsys.py", "contextlib.py")
    ]


@pytest.fixture(scope="module")
def code_tokenizer(files):
    return train_tokenizer([file.code for file in files], 400)


@pytest.fixture(scope="module")
def examples(files, code_tokenizer):
    return completion_examples(files, code_tokenizer, SETTING)


@pytest.fixture(scope="module")
def one_layer(tiny_model, tiny_params):
    return TrainedModel(model=tiny_model, params=tiny_params)


@pytest.fixture(scope="module", params=["codet5", "codegen"])
def case(request, files, code_tokenizer, examples, one_layer, tmp_path_factory):
    """A model, its tokenizer and lines to complete."""
    if request.param == "codet5":
        return one_layer, code_tokenizer, examples
    folder = tmp_path_factory.mktemp("codegen")
    tokenizer = load_tokenizer(write_codegen_folder(folder, [f.code for f in files]))
    made = completion_examples(files, tokenizer, SETTING)
    return trained_codegen(tokenizer), tokenizer, made


def test_context_and_target_are_consecutive_ids_of_the_whole_file(files, code_tokenizer, examples):
    whole = {file.source: code_tokenizer.encode(file.code) for file in files}
    for example in examples:
        ids = [*example.context, *example.target]
        file = whole[example.source.rpartition(":")[0]]
        assert any(file[at : at + len(ids)] == ids for at in range(len(file)))


def test_the_target_is_the_line_that_the_source_names(files, code_tokenizer, examples):
    lines = {file.source: file.code.split("\n") for file in files}
    for example in examples:
        source, _, number = example.source.rpartition(":")
        assert example.line == lines[source][int(number) - 1].strip()
        assert first_line(code_tokenizer.decode(example.target)) == example.line


def test_lines_keep_to_the_setting(examples):
    assert len(examples) == SETTING.examples
    sources = [example.source.rpartition(":")[0] for example in examples]
    assert max(sources.count(source) for source in sources) <= SETTING.lines_per_file
    for example in examples:
        assert len(example.target) <= SETTING.line_tokens
        assert SETTING.least_context <= len(example.context) <= 44 - 20 - 1
        assert len(example.line) >= SETTING.least_characters


def test_the_choice_depends_on_the_seed_alone(files, code_tokenizer, examples):
    assert completion_examples(reversed(files), code_tokenizer, SETTING) == examples
    other = dataclasses.replace(SETTING, seed=1)
    assert completion_examples(files, code_tokenizer, other) != examples


def test_lines_are_those_that_a_loop_over_the_whole_model_writes(case):
    trained, tokenizer, examples = case
    lines = complete_lines(trained, tokenizer, examples[:5], setting=SETTING)
    assert len(set(lines)) > 1
    logits = _logits(trained, tokenizer)
    assert lines == [_written(logits, tokenizer, example) for example in examples[:5]]


def _logits(trained, tokenizer):
    """Returns what gives the logits of each of a list of tokens, read at once by the decoder."""

    @jax.jit
    def logits(tokens):
        clm = jnp.array([[tokenizer.clm_id]])
        return trained.model.apply({"params": trained.params}, clm, tokens[None])[0]

    def padded(tokens):  # to one length, so that one program serves all
        rows = np.pad(tokens, (0, SETTING.length + 1 - len(tokens)))
        return np.asarray(logits(jnp.asarray(rows, jnp.int32)))[: len(tokens)]

    return padded


def _written(logits, tokenizer, example):
    """Greedy decoding without a cache: the decoder reads everything anew for each token."""
    tokens = [tokenizer.start_id, *tokenizer.target_prefix, *example.context]
    prompt = len(tokens)
    while len(tokens) <= SETTING.length and tokens[-1] != tokenizer.eos_id:
        tokens.append(int(logits(tokens)[-1].argmax()))
    return first_line(tokenizer.decode(tokens[prompt:]))


def test_loss_is_the_mean_of_minus_the_log_probabilities_of_the_targets(case):
    """Row by row, by numpy's softmax; seven examples in batches of four leave a row to spare."""
    trained, tokenizer, examples = case
    loss = completion_loss(trained, tokenizer, examples, setting=SETTING)
    logits_of = _logits(trained, tokenizer)
    nats = []
    for example in examples:
        ids = [*tokenizer.target_prefix, *example.context, *example.target]
        logits = logits_of([tokenizer.start_id, *ids]).astype(np.float64)
        for at in range(len(ids) - len(example.target), len(ids)):
            nats.append(np.log(np.sum(np.exp(logits[at]))) - logits[at][ids[at]])
    assert loss.weight == len(nats)
    np.testing.assert_allclose(loss.compute(), np.mean(nats), rtol=1e-5)  # float32 sums


@pytest.mark.parametrize(
    "prediction, reference, expected",
    [
        ("abcd", "abxd", 0.75),  # ab and d: 2 * 3 / 8
        ("return x", "return x", 1.0),
        ("return", "", 0.0),
        ("", "", 1.0),
        ("x = 1", "y = 2", 0.6),  # " = ": 2 * 3 / 10
    ],
)
def test_edit_similarity_by_hand(prediction, reference, expected):
    assert edit_similarity(prediction, reference) == pytest.approx(expected)


def test_the_first_line_is_the_first_that_is_not_blank():
    assert first_line("\n\n    return x  \nrest") == "return x"
    assert first_line("  \n ") == ""


def test_quality_counts_exact_lines_and_averages_similarity(
    code_tokenizer, examples, one_layer, monkeypatch
):
    right, wrong = examples[0].line, "x" + examples[1].line
    written = [right, wrong]
    monkeypatch.setattr(
        "codet5p_jax.evaluation.completion.complete_lines", lambda *_, **__: written
    )
    quality = completion_quality(one_layer, code_tokenizer, examples[:2], setting=SETTING)
    length = len(wrong)
    assert quality["exact_match"]["mean"] == 0.5
    similar = 2 * (length - 1) / (2 * length - 1)  # all but the x matches
    assert quality["edit_similarity"]["mean"] == pytest.approx((1 + similar) / 2)
    assert [sample["output"] for sample in quality["samples"]] == written


def test_lengths_without_room_for_a_context_are_an_error():
    with pytest.raises(ValueError, match=r"needs 57 tokens.*length is 56\. Raise COMPLETION"):
        CompletionSetting(length=56)


def test_files_without_a_line_that_fits_are_an_error(code_tokenizer):
    short = SourceFile(code="x = 1\n", language="python", source="a/b.py")
    with pytest.raises(ValueError, match="hold no line with 8 tokens before it"):
        completion_examples([short], code_tokenizer, SETTING)


def test_a_corpus_without_files_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="No code_files in"):
        read_files(tmp_path)
