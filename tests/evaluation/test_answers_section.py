"""Tests of codet5p_jax.evaluation.answers_section."""

import pytest

from codet5p_jax.evaluation.answers_section import answers_section


def _answer(step, instruction="Add 1.", given=""):
    return {
        "step": step,
        "instruction": instruction,
        "input": given,
        "output": "x + 1",
        "answer": f"<answer {step}>",
    }


def test_an_instruction_has_its_answer_and_the_models_first_middle_and_last():
    page = str(answers_section([_answer(step) for step in (10, 20, 30, 40, 50)]))
    assert page.count("<h3>") == 1 and "x + 1" in page
    for step in (10, 30, 50):
        assert f"&lt;answer {step}&gt;" in page
    assert "answer 20" not in page and "answer 40" not in page


def test_the_same_instruction_with_another_input_is_another():
    page = str(answers_section([_answer(1), _answer(1, given="y")]))
    assert page.count("<h3>") == 2 and page.count("Input") == 1


@pytest.mark.parametrize("answer", ["", "\n\n\n", "\t \n"])
def test_an_answer_without_a_letter_is_called_blank(answer):
    page = str(answers_section([{**_answer(1), "answer": answer}]))
    assert "<h4>Step 1</h4><pre>(blank)</pre>" in page


def test_there_is_no_section_without_answers():
    assert answers_section(()) is None
