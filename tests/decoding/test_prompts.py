import pytest

from codet5p_jax.decoding.prompts import PROMPTS, code_to_text, denoise
from codet5p_jax.tokenizer import train_tokenizer

CODE = "def f(x):\n\treturn x"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["def mean(values):\n    return\n" * 9], 265, min_frequency=2)


def test_sentinels_in_a_text_to_denoise_become_ids_and_keep_the_whitespace_around(tokenizer):
    prompt = denoise("a\n\t<extra_id_0>\nb <extra_id_12>", tokenizer)
    expected = [
        1,
        *tokenizer.encode("a\n\t"),
        tokenizer.sentinel_id(0),
        *tokenizer.encode("\nb "),
        tokenizer.sentinel_id(12),
        2,
    ]
    assert list(prompt.encoder_input_tokens) == expected
    assert prompt.decoder_prompt == (1,)


def test_special_tokens_in_a_text_stay_text(tokenizer):
    ids = denoise("</s>", tokenizer).encoder_input_tokens
    assert ids == (1, *tokenizer.encode("</s>"), 2) and len(ids) > 3


@pytest.mark.parametrize(
    ("task", "encoder", "prompt"),
    [
        ("complete", "[CLM] code", "<s>"),
        ("continue", "[CLM]", "<s> code"),
        ("continue_both", "<s> code </s>", "<s> code"),
        ("code_to_text", "<s> code </s>", "[TDEC]"),
        ("text_to_code", "<s> code </s>", "[CDEC]"),
    ],
)
def test_each_task_has_the_layout_of_its_training_examples(tokenizer, task, encoder, prompt):
    tokenizer = tokenizer.with_task_tokens()
    ids = {
        "<s>": [tokenizer.bos_id],
        "</s>": [tokenizer.eos_id],
        "[CLM]": [tokenizer.clm_id],
        "[TDEC]": [tokenizer.tdec_id],
        "[CDEC]": [tokenizer.cdec_id],
        "code": tokenizer.encode(CODE),
    }
    made = PROMPTS[task](CODE, tokenizer)
    assert list(made.encoder_input_tokens) == [i for name in encoder.split() for i in ids[name]]
    assert list(made.decoder_prompt) == [i for name in prompt.split() for i in ids[name]]


def test_a_model_of_one_stage_cannot_translate(tokenizer):
    with pytest.raises(
        ValueError, match=r"has no task tokens .* Use denoise, complete or continue"
    ):
        code_to_text(CODE, tokenizer)
