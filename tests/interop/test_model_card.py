import re

import pytest

from codet5p_jax.instruction_prompt import EXAMPLE, alpaca_prompt
from codet5p_jax.interop.codet5p_format import CODET5P
from codet5p_jax.interop.huggingface import FORMATS
from codet5p_jax.interop.model_card import Provenance, measures, model_card
from codet5p_jax.interop.t5_formats import T5
from tests.interop.conftest import T5_FORMATS


def test_what_is_unknown_is_said_to_be_so(config):
    card = model_card(config, format=T5, provenance=Provenance(), left_out=())
    for line in (
        "| steps | unknown |",
        "| corpus | unknown |",
        "None was made before this export.",
    ):
        assert line in card
    assert "cannot hold" not in card and "by licence" not in card


def test_parameters_that_are_left_out_are_named_as_a_limitation(config):
    card = model_card(config, format=T5, provenance=Provenance(), left_out=("projection/kernel",))
    assert "this format cannot hold: `projection/kernel`" in card.split("## Limitations")[1]


def test_an_imported_model_is_not_called_trained_here(config):
    card = model_card(
        config, format=T5, provenance=Provenance(imported_from="codet5p-220m"), left_out=()
    )
    assert "The weights of `codet5p-220m`" in card
    assert "pretrained with the objectives" not in card


HALVES = {
    "encoder": {"name": "codegen-350M", "architecture": "CodeGenForCausalLM"},
    "decoder": {"name": "codegen-2B", "architecture": "CodeGenForCausalLM"},
}


def test_a_model_of_language_models_says_which_and_that_they_have_a_licence(two_codegens):
    card = model_card(
        two_codegens(), format=CODET5P, provenance=Provenance(steps=9, halves=HALVES), left_out=()
    )
    assert "| encoder made of | codegen-350M, CodeGenForCausalLM |" in card
    assert "| decoder made of | codegen-2B, CodeGenForCausalLM |" in card
    licence = card.split("## Licence")[1]
    assert "`codegen-350M` and `codegen-2B`, under their own licence" in licence
    assert "pretrained with the objectives" in card and "not trained yet" not in card


def test_language_models_that_were_only_joined_are_not_called_trained(two_codegens):
    card = model_card(
        two_codegens(), format=CODET5P, provenance=Provenance(steps=0, halves=HALVES), left_out=()
    )
    assert "not trained yet" in card
    assert "pretrained with the objectives" not in card


def test_an_instruction_tuned_model_names_its_instructions_and_how_it_is_asked(config):
    tuned = Provenance(instructions={"made": "f00d"}, began_from="stage2")
    card = model_card(config, format=T5, provenance=tuned, left_out=())
    for line in (
        "| began from | stage2 |",
        "| corpus | none: instructions alone |",
        "| instructions made | f00d |",
        "### Instruction:\nWhat is to be done.\n\n### Response:",
        "of the source code and the instructions",
    ):
        assert line in card
    assert "Not tuned to follow instructions" not in card and "its corpus" not in card
    assert "tuned on the instructions `made` alone;" in card.split("## Limitations")[1]
    untuned = model_card(config, format=T5, provenance=Provenance(), left_out=())
    assert "Not tuned to follow instructions" in untuned and "### Response:" not in untuned


@pytest.mark.parametrize(
    ("format", "read"), [(T5, "inputs.input_ids[:, :-1]"), (CODET5P, "inputs.input_ids")]
)
def test_an_instruction_tuned_model_is_loaded_and_asked_in_its_prompt(
    config, two_codegens, format, read
):
    config = config if format is T5 else two_codegens()
    tuned = Provenance(instructions={"made": "f00d"})
    card = model_card(config, format=format, provenance=tuned, left_out=())
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    [prompt] = re.findall(r'"""(.*?)"""', code, re.DOTALL)
    assert prompt == alpaca_prompt(EXAMPLE)
    assert f" decoder_input_ids={read}," in code
    assert "def mean" not in code
    compile(code, "card", "exec")


def test_the_last_losses_are_shown_where_there_are_any(config):
    losses = {"text/loss": (2.34567, 2.5), "loss": (3.0, None)}
    card = model_card(config, format=T5, provenance=Provenance(losses=losses), left_out=())
    assert "| loss | in training | on held-out data |\n|---|---|---|\n" in card
    assert "| text/loss | 2.346 | 2.5 |\n| loss | 3 |  |\n" in card
    without = model_card(config, format=T5, provenance=Provenance(), left_out=())
    assert "Last losses" not in without


def test_names_cannot_break_a_table(config):
    card = model_card(config, format=T5, provenance=Provenance(licenses={"a|b\nc": 1}), left_out=())
    assert "| a\\|b c | 1 |" in card


def test_numbers_are_found_in_any_nesting_and_bad_ones_too():
    contents = {"a": {"b": 12_345, "text": "no", "flag": True}, "c": float("nan"), "d": None}
    assert list(measures(contents)) == [("a / b", "12,345"), ("c", "nan")]


def test_rows_of_a_table_are_named_by_their_first_text():
    contents = {"losses": [{"tokens": 9, "objective": "denoising", "after": 2.5}, [7]]}
    assert list(measures(contents)) == [
        ("losses / denoising / tokens", "9"),
        ("losses / denoising / after", "2.5"),
        ("losses / 2 / 1", "7"),
    ]


def test_an_estimate_is_one_value_and_all_stands_for_the_languages():
    estimate = {"mean": 0.5, "low": 0.4, "high": 0.6, "count": 10}
    contents = {"mrr": {"all": estimate, "c": estimate}}
    assert list(measures(contents)) == [("mrr", "0.5 (0.4 to 0.6)")]


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS.keys())
def test_a_card_says_how_its_format_is_loaded(config, two_codegens, format):
    config = config if format.name in T5_FORMATS else two_codegens()
    card = model_card(config, format=format, provenance=Provenance(), left_out=())
    assert f"| architecture | {format.architecture} |" in card
    assert f"{format.auto_class}.from_pretrained(" in card
    assert ("trust_remote_code=True" in card) == bool(format.model_files)
    layers = {"generate": "layers, encoder + decoder | 2 + 3", "continue": "layers | 3"}
    expected = [layers[what] for what in layers if what in format.does]
    assert f"| {(*expected, 'layers, encoder + decoder | 2 + 0')[0]} |" in card
    assert ("alone, written by codet5p_jax" in card) == (not format.is_whole)
