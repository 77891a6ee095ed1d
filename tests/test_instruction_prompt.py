from codet5p_jax.instruction_prompt import END_OF_PROMPT, alpaca_prompt


def test_prompts_are_those_of_alpaca():
    assert alpaca_prompt("Do it.") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nDo it.\n\n### Response:"
    )
    assert alpaca_prompt("Do it.", "with this") == (
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nDo it.\n\n### Input:\nwith this\n\n### Response:"
    )


def test_every_prompt_ends_with_the_words_that_ask_for_the_response():
    for context in ("", "with this", "\n"):
        assert alpaca_prompt("Do it.", context).endswith(END_OF_PROMPT)
