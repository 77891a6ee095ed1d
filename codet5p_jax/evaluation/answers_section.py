"""The report's part on instruction tuning: held-out instructions, and how they were answered."""

from collections.abc import Mapping, Sequence
from typing import Any

from codet5p_jax.evaluation.markup import Markup, tag

SHOWN_STEPS = 3  # the first, one in the middle, the last


def answers_section(answers: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Returns each instruction with its answer in the file and the model's; None without any.

    Args:
        answers: Objects of answers.jsonl, in order of steps.
    """
    if not answers:
        return None
    asked: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for answer in answers:
        asked.setdefault((answer["instruction"], answer.get("input", "")), []).append(answer)
    note = (
        "The first instructions held out, none picked by hand, answered by greedy decoding at the "
        "first, a middle and the last evaluation."
    )
    cards = (_card(*key, found) for key, found in asked.items())
    return tag("section", tag("h2", "Answers"), tag("p", note, class_="note"), *cards)


def _card(instruction: str, given: str, answers: Sequence[Mapping[str, Any]]) -> Markup:
    parts = [("Input", given)] if given else []
    parts.append(("Answer in the file", answers[0].get("output", "")))
    parts += [(f"Step {answer['step']:,}", answer["answer"]) for answer in _shown(answers)]
    return tag(
        "div",
        tag("h3", instruction),
        *(
            part
            for title, text in parts
            for part in (tag("h4", title), tag("pre", text if text.strip() else "(blank)"))
        ),
        class_="card",
    )


def _shown(answers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    last = len(answers) - 1
    indices = {round(i * last / (SHOWN_STEPS - 1)) for i in range(SHOWN_STEPS)}
    return [answers[i] for i in sorted(indices)]
