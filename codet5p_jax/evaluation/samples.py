"""Documentation and completions that a model writes for held-out functions."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from codet5p_jax.decoding.generate import generate
from codet5p_jax.evaluation.heldout import HeldOutPair
from codet5p_jax.evaluation.losses import TrainedModel
from codet5p_jax.models.padding import padded
from codet5p_jax.retrieval.embed import token_rows
from codet5p_jax.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleLengths:
    """Lengths of generated samples, in tokens.

    Attributes:
        code: Longest code that is read.
        docstring: Longest documentation that is written, `[TDEC]` and `</s>` counted.
        completion: Longest completion that is written, what targets begin with (`<s>`, or nothing)
            and `</s>` counted.
    """

    code: int
    docstring: int = 48
    completion: int = 48


def first_long_enough(
    pairs: Sequence[HeldOutPair], tokenizer: Tokenizer, *, least: int, count: int
) -> list[HeldOutPair]:
    """Returns the first `count` pairs whose code has at least `least` tokens."""
    chosen: list[HeldOutPair] = []
    for pair in pairs:
        if len(chosen) == count:
            break
        if len(tokenizer.encode(pair.code)) >= least:
            chosen.append(pair)
    return chosen


def docstring_samples(
    trained: TrainedModel,
    tokenizer: Tokenizer,
    pairs: Sequence[HeldOutPair],
    *,
    lengths: SampleLengths,
) -> list[dict[str, Any]]:
    """Returns what the model says about each function, decoding greedily from `[TDEC]`.

    The prompt is what the model reads: the function's beginning, if it is longer.
    """
    if not pairs:
        return []
    tokens = token_rows([pair.code for pair in pairs], tokenizer, length=lengths.code)
    generations = generate(
        trained.model,
        trained.params,
        tokens,
        max_length=lengths.docstring,
        prompt=np.full([len(pairs), 1], tokenizer.tdec_id, np.int32),
    )
    return [
        _sample("code_to_text", pair, prompt=prompt, reference=pair.text, output=output)
        for pair, prompt, output in zip(
            pairs, _texts(tokenizer, tokens), _texts(tokenizer, generations.tokens), strict=True
        )
    ]


def completion_samples(
    trained: TrainedModel,
    tokenizer: Tokenizer,
    pairs: Sequence[HeldOutPair],
    *,
    lengths: SampleLengths,
) -> list[dict[str, Any]]:
    """Returns how the model continues each function; the encoder reads `[CLM]` and its first half.

    The reference is cut to as many tokens as the model may write.
    """
    if not pairs:
        return []
    prefix_ids = np.array(tokenizer.target_prefix, np.int32)
    written = lengths.completion - len(prefix_ids) - 1
    ids = [tokenizer.encode(pair.code) for pair in pairs]
    prefixes = [row[: min(len(row) // 2, lengths.code - 1)] for row in ids]
    generations = generate(
        trained.model,
        trained.params,
        padded(
            [[tokenizer.clm_id, *prefix] for prefix in prefixes],
            pad_id=tokenizer.pad_id,
            length=lengths.code,
        ),
        max_length=lengths.completion,
        prompt=np.tile(prefix_ids, (len(pairs), 1)),
    )
    return [
        _sample(
            "completion",
            pair,
            prompt=tokenizer.decode(prefix),
            reference=tokenizer.decode(row[len(prefix) :][:written]),
            output=output,
        )
        for pair, row, prefix, output in zip(
            pairs, ids, prefixes, _texts(tokenizer, generations.tokens), strict=True
        )
    ]


def _texts(tokenizer: Tokenizer, tokens: Any) -> list[str]:
    return [tokenizer.decode(row) for row in np.asarray(tokens).tolist()]


def _sample(
    task: str, pair: HeldOutPair, *, prompt: str, reference: str, output: str
) -> dict[str, Any]:
    return {
        "task": task,
        "language": pair.language,
        "source": f"{pair.source}: {pair.name}",
        "prompt": prompt,
        "reference": reference,
        "output": output,
    }
