"""Tests of codet5p_jax.data.preview."""

import collections

import pytest

from codet5p_jax.data.preview import decoded_examples, default_lengths

pytestmark = pytest.mark.usefixtures("registered")
LENGTHS = {"inputs": 96, "targets": 96}


def _shown(example, name):
    [feature] = [feature for feature in example.features if feature.name == name]
    return "".join(text for text, _ in feature.pieces), feature.num_tokens


def test_inputs_and_targets_are_decoded_with_their_special_tokens():
    [example] = decoded_examples(
        "unimodal_span_denoising_python", lengths=lambda task: LENGTHS, count=1
    )
    assert example.task == "unimodal_span_denoising_python"
    inputs, count = _shown(example, "inputs")
    targets, _ = _shown(example, "targets")
    assert inputs.startswith("<s>") and inputs.endswith("</s>") and 0 < count <= 96
    assert "<extra_id_0>" in inputs and targets.startswith("<s><extra_id_0>")


def test_special_tokens_are_told_from_text_that_looks_like_them(tokenizer):
    ids = [3, *tokenizer.encode("<s> x"), tokenizer.sentinel_id(0), tokenizer.sentinel_id(1), 2, 0]
    assert tokenizer.pieces(ids) == [
        *(("[CLM]", True), ("<s> x", False), ("<extra_id_0>", True), ("<extra_id_1>", True)),
        *(("</s>", True), ("<pad>", True)),
    ]
    assert tokenizer.pieces([]) == []
    extended = tokenizer.with_task_tokens()
    assert extended.pieces([extended.cdec_id]) == [("[CDEC]", True)]


def test_numbers_are_shown_as_they_are():
    [example] = decoded_examples("bimodal_pairs_ruby", count=1)
    pair_id, count = _shown(example, "pair_id")
    assert int(pair_id) >= 0 and count is None


def test_examples_of_a_mixture_are_drawn_by_the_rates_of_its_tasks():
    drawn = collections.Counter(
        example.task.rpartition("_")[0]
        for example in decoded_examples("unimodal", lengths=_short_lengths, count=120)
    )
    assert abs(drawn["unimodal_span_denoising"] - 80) < 21  # four standard deviations
    assert abs(drawn["unimodal_decoder_clm"] - 20) < 17


def _short_lengths(task):
    return {"inputs": 1, "targets": 96} if "decoder" in task else LENGTHS


def test_equal_seeds_give_the_same_examples_and_others_do_not():
    first, again, other = (
        list(decoded_examples("bimodal_pairs", count=3, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_every_task_of_ours_has_lengths_by_default():
    assert default_lengths("unimodal_decoder_clm_go") == {"inputs": 1, "targets": 1024}
    assert default_lengths("instruction_alpaca")["inputs"] == 512
    with pytest.raises(
        ValueError, match=r"How long are examples of 'other'\?.*--lengths=inputs=512"
    ):
        default_lengths("other")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unimodl", {}, "Did you mean 'unimodal'"),
        ("unimodal", {"split": "tset"}, r"no split 'tset'; known: .*test"),
        (
            "bimodal_pairs",
            {"lengths": lambda task: LENGTHS},
            "sequences code, text; lengths are gi",
        ),
        ("text_to_code_ruby", {"lengths": lambda task: {"inputs": 2, "targets": 9}}, "need 3"),
    ],
)
def test_what_cannot_be_shown_says_why(name, options, message):
    with pytest.raises(ValueError, match=message):
        next(decoded_examples(name, count=1, **options))


def test_a_split_with_fewer_examples_says_so():
    with pytest.raises(ValueError, match=r"'bimodal_pairs_ruby' has no more examples in the split"):
        list(decoded_examples("bimodal_pairs_ruby", split="test", count=1_000))
