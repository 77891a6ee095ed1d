"""The prompt in which instructions are asked, in training and afterwards alike.

Source: Stanford Alpaca (github.com/tatsu-lab/stanford_alpaca), which CodeT5+ takes (section 3.3).
"""

EXAMPLE = "Write a Python function that reverses a list."  # for model cards
END_OF_PROMPT = "\n\n### Response:"


def alpaca_prompt(instruction: str, context: str = "") -> str:
    """Returns the prompt for an instruction; the answer follows it.

    Args:
        instruction: What is to be done.
        context: What it is to be done with; empty if there is nothing.
    """
    paired = ", paired with an input that provides further context" if context else ""
    given = f"\n\n### Input:\n{context}" if context else ""
    return (
        f"Below is an instruction that describes a task{paired}. Write a response that "
        f"appropriately completes the request.\n\n### Instruction:\n{instruction}{given}"
        f"{END_OF_PROMPT}"
    )
