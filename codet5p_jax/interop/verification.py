"""Compares an export with the model it was made from: tokens, logits, generations.

Both sides are given as a `Model`: the exported folder through transformers, and our own model.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from codet5p_jax.tokenizer import CodeTokenizer

# Of the largest logit. Float32 sums in another order differ by about 1e-6 per layer; a transposed
# or swapped kernel by about 1.
TOLERANCE = 1e-3
TIE = 1e-4  # logits this close, of the largest, may come out in either order

TEXTS = (
    "def mean(values):\n    return",
    "// Returns the larger of two numbers.\nfunction max(a, b) {\n\treturn a > b ? a : b;\n}",
    "x",
    'func Greet(name string) string {\n\treturn fmt.Sprintf("Grüße, %s! 你好 🙂", name)\n}',
    '''class Stack:
    """Last in, first out."""

    def __init__(self):
        self._items = []

    def push(self, item):
        self._items.append(item)

    def pop(self):
        if not self._items:
            raise IndexError("pop from an empty stack")
        return self._items.pop()
''',
    "SELECT  name,\r\n\tcount(*) FROM `files` WHERE size >= 0x1F;   ",
)


@runtime_checkable
class Model(Protocol):
    """What is compared of each side."""

    def logits(
        self, encoder_input_tokens: np.ndarray, decoder_input_tokens: np.ndarray
    ) -> np.ndarray:
        """Returns logits [batch, targets, vocab]; 0 in the encoder's input is padding."""

    def greedy(self, encoder_input_tokens: np.ndarray, *, max_length: int) -> list[list[int]]:
        """Returns the likeliest tokens of each row, up to and with `</s>`."""


@runtime_checkable
class Tokenizer(Protocol):
    """The tokenizer that is compared with ours."""

    def encode(self, text: str, *, special_tokens: bool) -> list[int]:
        """Returns the ids of `text`."""

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of `ids`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """How one input fared.

    Attributes:
        text: The input.
        tokens: Its length in tokens, `<s>` and `</s>` counted.
        padding: Padding behind it.
        tokenizer: None, or how the two tokenizers differ on it.
        max_difference: Largest absolute difference of two logits.
        relative_difference: The same, divided by the largest absolute logit.
        generated: Tokens that were generated here.
        agreeing: How many of them, from the first on, are the same there.
        tie: None, or why the first different token does not count: both tokens are as likely.
    """

    text: str
    tokens: int
    padding: int
    tokenizer: str | None
    max_difference: float
    relative_difference: float
    generated: int
    agreeing: int
    tie: str | None = None

    def passed(self, tolerance: float) -> bool:
        """Whether tokens, logits and generations agree."""
        same = self.agreeing == self.generated or self.tie is not None
        return self.tokenizer is None and self.relative_difference <= tolerance and same


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether an export is the model.

    Attributes:
        comparisons: One per input.
        problems: What was wrong on loading; any is a failure.
        tolerance: Of the relative difference of logits.
    """

    comparisons: tuple[Comparison, ...]
    problems: tuple[str, ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether everything agrees."""
        return not self.problems and all(c.passed(self.tolerance) for c in self.comparisons)

    def to_dict(self) -> dict[str, Any]:
        """Returns the verdict as JSON values."""
        return {"passed": self.passed, **dataclasses.asdict(self)}


def verify(
    ours: Model,
    theirs: Model,
    *,
    tokenizer: CodeTokenizer,
    their_tokenizer: Tokenizer,
    problems: Sequence[str] = (),
    texts: Sequence[str] = TEXTS,
    max_length: int = 32,
    tolerance: float = TOLERANCE,
) -> Verdict:
    """Compares two models on `texts`, which are padded to one batch.

    Args:
        ours: The model that was exported.
        theirs: The export.
        tokenizer: Our tokenizer, which makes the inputs of both.
        their_tokenizer: The exported tokenizer.
        problems: What went wrong on loading the export.
        texts: Inputs; the decoder reads the same texts for the logits.
        max_length: Tokens to generate.
        tolerance: Largest allowed difference of logits, relative to the largest logit.
    """
    rows = [[tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id] for text in texts]
    inputs, targets = padded(rows), padded([[0, *row[:-1]] for row in rows])
    our_logits, their_logits = ours.logits(inputs, targets), theirs.logits(inputs, targets)
    our_tokens = ours.greedy(inputs, max_length=max_length)
    their_tokens = theirs.greedy(inputs, max_length=max_length)

    comparisons = []
    for i, (text, row) in enumerate(zip(texts, rows, strict=True)):
        differences = _logit_differences(our_logits[i, : len(row)], their_logits[i, : len(row)])
        generations = _generations(our_tokens[i], their_tokens[i], model=ours, inputs=inputs[i])
        comparisons.append(
            Comparison(
                text=text,
                tokens=len(row),
                padding=inputs.shape[1] - len(row),
                tokenizer=_tokenizer_difference(text, tokenizer, their_tokenizer),
                **differences,
                **generations,
            )
        )
    return Verdict(comparisons=tuple(comparisons), problems=tuple(problems), tolerance=tolerance)


def padded(rows: Sequence[Sequence[int]]) -> Int[np.ndarray, "batch length"]:
    """Returns `rows` as one int32 array, filled with 0 behind."""
    array = np.zeros([len(rows), max(map(len, rows))], np.int32)
    for i, row in enumerate(rows):
        array[i, : len(row)] = row
    return array


def _logit_differences(
    ours: Float[np.ndarray, "targets vocab"], theirs: Float[np.ndarray, "targets vocab"]
) -> Mapping[str, Any]:
    largest = float(np.abs(ours - theirs).max())
    return {
        "max_difference": largest,
        "relative_difference": largest / float(np.abs(ours).max()),
    }


def _tokenizer_difference(text: str, ours: CodeTokenizer, theirs: Tokenizer) -> str | None:
    ids = ours.encode(text)
    if theirs.encode(text, special_tokens=False) != ids:
        return "other ids"
    if theirs.encode(text, special_tokens=True) != [ours.bos_id, *ids, ours.eos_id]:
        return "other special tokens around the text"
    if theirs.decode(ids) != text or ours.decode(ids) != text:
        return "the ids do not decode to the text"
    return None


def _generations(
    ours: list[int], theirs: list[int], *, model: Model, inputs: Int[np.ndarray, " inputs"]
) -> Mapping[str, Any]:
    same = next(
        (i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]),
        min(len(ours), len(theirs)),
    )
    tie = None
    if same < min(len(ours), len(theirs)):
        logits = model.logits(inputs[None], np.array([[0, *ours[:same]]], np.int32))[0, -1]
        tie = _tie(logits, ours[same], theirs[same])
    return {"generated": len(ours), "agreeing": same, "tie": tie}


def _tie(logits: Float[np.ndarray, " vocab"], ours: int, theirs: int) -> str | None:
    gap = float(logits[ours] - logits[theirs])
    if not gap <= TIE * float(np.abs(logits).max()):
        return None
    return f"tokens {ours} and {theirs} are equally likely: their logits differ by {gap:.2g}"
