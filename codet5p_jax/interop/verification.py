"""Compares an export with the model it was made from, in all that its format does.

Both sides are given as a `Model`: the exported folder through transformers, and our own model.
Tokens are always compared; logits and generations, embeddings, matching scores where the export has
them. Short texts read few rows of the vocabulary, so all rows of the token embeddings are compared
too: two that were exchanged would show nowhere else.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from codet5p_jax.models.padding import padded
from codet5p_jax.tokenizer import Tokenizer as OurTokenizer

Tokens = Int[np.ndarray, "batch length"]
Rows = Sequence[Sequence[int]]
SHOWN_ROWS = 5

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
    # Long enough for T5's buckets of far positions.
    "".join(f"    total_{i} = total_{i - 1} + values[{i}]\n" for i in range(1, 25)),
)


@runtime_checkable
class Model(Protocol):
    """What is compared of each side. Tokens are padded behind, with the tokenizer's padding.

    Attributes:
        does: What it can be asked for: "generate", "embed", "match". Only methods of these are
            called.
    """

    does: frozenset[str]

    def token_embeddings(self) -> Mapping[str, np.ndarray]:
        """Returns the token embedding [vocab, width] of each side, "encoder" and "decoder"."""

    def logits(
        self, encoder_input_tokens: np.ndarray, decoder_input_tokens: np.ndarray
    ) -> np.ndarray:
        """Generate: returns logits [batch, targets, vocab]."""

    def greedy(self, encoder_input_tokens: np.ndarray, *, max_length: int) -> list[list[int]]:
        """Generate: returns the likeliest tokens of each row, up to and with `</s>`."""

    def language_model_logits(self, tokens: np.ndarray) -> np.ndarray:
        """Continue: returns logits [batch, length, vocab] of the decoder's language model."""

    def embed(self, tokens: np.ndarray) -> np.ndarray:
        """Embed: returns one vector of unit norm per row."""

    def match(self, text_tokens: np.ndarray, code_tokens: np.ndarray) -> np.ndarray:
        """Match: returns the scores (no match, match) of each pair of rows."""


@runtime_checkable
class Tokenizer(Protocol):
    """The tokenizer that is compared with ours."""

    def encode(self, text: str, *, special_tokens: bool) -> list[int]:
        """Returns the ids of `text`."""

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of `ids`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """Of two arrays.

    Attributes:
        absolute: Largest difference of two numbers; infinite where the shapes differ.
        relative: The same, divided by the largest number of ours.
    """

    absolute: float
    relative: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """How one input fared. What the export's format does not do is None.

    Attributes:
        text: The input.
        tokens: Its length in tokens, `<s>` and `</s>` counted.
        padding: Padding behind it.
        tokenizer: None, or how the two tokenizers differ on it.
        logits: Of all decoder positions.
        generated: Tokens that were generated here.
        agreeing: How many of them, from the first on, are the same there.
        tie: None, or why the first different token does not count: both tokens are as likely.
        embedding: Of the vectors.
        matching: Of the scores, the text paired with the next.
    """

    text: str
    tokens: int
    padding: int
    tokenizer: str | None
    logits: Difference | None = None
    generated: int | None = None
    agreeing: int | None = None
    tie: str | None = None
    embedding: Difference | None = None
    matching: Difference | None = None

    @property
    def differences(self) -> dict[str, Difference]:
        """What was compared in numbers."""
        named = {"logits": self.logits, "embedding": self.embedding, "matching": self.matching}
        return {name: value for name, value in named.items() if value is not None}

    def passed(self, tolerance: float) -> bool:
        """Whether tokens, numbers and generations agree."""
        same = self.agreeing == self.generated or self.tie is not None
        near = all(value.relative <= tolerance for value in self.differences.values())
        return self.tokenizer is None and near and same


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether an export is the model.

    Attributes:
        comparisons: One per input.
        problems: What was wrong on loading, or with whole tables; any is a failure.
        tolerance: Of relative differences.
    """

    comparisons: tuple[Comparison, ...]
    problems: tuple[str, ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether everything agrees."""
        return not self.problems and all(c.passed(self.tolerance) for c in self.comparisons)

    @property
    def worst(self) -> dict[str, float]:
        """What was compared in numbers -> the largest relative difference over all inputs."""
        found: dict[str, float] = {}
        for comparison in self.comparisons:
            for name, difference in comparison.differences.items():
                found[name] = float(np.maximum(found.get(name, 0.0), difference.relative))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Returns the verdict as JSON values."""
        return {"passed": self.passed, "worst": self.worst, **dataclasses.asdict(self)}


def verify(
    ours: Model,
    theirs: Model,
    *,
    tokenizer: OurTokenizer,
    their_tokenizer: Tokenizer,
    problems: Sequence[str] = (),
    texts: Sequence[str] = TEXTS,
    max_length: int = 32,
    tolerance: float = TOLERANCE,
) -> Verdict:
    """Compares two models on `texts`, which are padded to one batch.

    Where one has other ids than the other, numbers are not compared: they would not be of the same
    tokens.

    Args:
        ours: The model that was exported.
        theirs: The export; it says what is compared.
        tokenizer: Our tokenizer, which makes the inputs of both.
        their_tokenizer: The exported tokenizer.
        problems: What went wrong on loading the export.
        texts: Inputs; the decoder reads the same texts for the logits.
        max_length: Tokens to generate.
        tolerance: Largest allowed difference of numbers, relative to the largest of them.
    """
    ids = [tokenizer.encode(text) for text in texts]
    rows = [[tokenizer.bos_id, *row, tokenizer.eos_id] for row in ids]
    inputs = padded(rows, pad_id=tokenizer.pad_id)
    cannot = theirs.does - ours.does
    our_tables, their_tables = ours.token_embeddings(), theirs.token_embeddings()
    same_ids = all(
        len(our_tables.get(side, table)) == len(table) for side, table in their_tables.items()
    )
    found: list[dict[str, Any]] = [{} for _ in texts]
    for what, compare in _COMPARE.items():
        if same_ids and what in theirs.does and what not in cannot:
            results = compare(ours, theirs, rows, inputs, tokenizer=tokenizer, length=max_length)
            for fields, result in zip(found, results, strict=True):
                fields.update(result)
    comparisons = tuple(
        Comparison(
            text=text,
            tokens=len(row),
            padding=inputs.shape[1] - len(row),
            tokenizer=_tokenizer_difference(text, tokenizer, their_tokenizer),
            **fields,
        )
        for text, row, fields in zip(texts, rows, found, strict=True)
    )
    return Verdict(
        comparisons=comparisons,
        problems=(
            *problems,
            *(f"our model has nothing to {what} with, the export has" for what in sorted(cannot)),
            *_vocabulary_problems(our_tables, their_tables),
        ),
        tolerance=tolerance,
    )


def _vocabulary_problems(
    ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> Iterator[str]:
    for side, table in theirs.items():
        if side not in ours:
            yield f"token embedding of the {side}: our model has none"
        elif ours[side].shape != table.shape:
            yield (
                f"token embedding of the {side}: {list(table.shape)}, expected "
                f"{list(ours[side].shape)}. Is it the export of another run, or of another stage?"
            )
        else:
            rows = np.flatnonzero(np.any(ours[side] != table, axis=1))
            if rows.size:
                shown = ", ".join(map(str, rows[:SHOWN_ROWS]))
                more = ", ..." if rows.size > SHOWN_ROWS else ""
                yield (
                    f"token embedding of the {side}: {rows.size:,} of {len(table):,} rows differ: "
                    f"those of the ids {shown}{more}"
                )


def _compare_generation(
    ours: Model,
    theirs: Model,
    rows: Rows,
    inputs: Tokens,
    *,
    tokenizer: OurTokenizer,
    length: int,
) -> Iterator[dict[str, Any]]:
    start = [[tokenizer.start_id, *row[:-1]] for row in rows]
    targets = padded(start, pad_id=tokenizer.pad_id)
    our_logits, their_logits = ours.logits(inputs, targets), theirs.logits(inputs, targets)
    our_tokens = ours.greedy(inputs, max_length=length)
    their_tokens = theirs.greedy(inputs, max_length=length)
    for i, row in enumerate(rows):
        yield {
            "logits": _difference(our_logits[i, : len(row)], their_logits[i, : len(row)]),
            **_generations(
                our_tokens[i],
                their_tokens[i],
                model=ours,
                inputs=inputs[i],
                start_id=tokenizer.start_id,
            ),
        }


def _compare_language_models(
    ours: Model, theirs: Model, rows: Rows, inputs: Tokens, **_: Any
) -> Iterator[dict[str, Any]]:
    our_logits = ours.language_model_logits(inputs)
    their_logits = theirs.language_model_logits(inputs)
    for i, row in enumerate(rows):
        yield {"logits": _difference(our_logits[i, : len(row)], their_logits[i, : len(row)])}


def _compare_embeddings(
    ours: Model, theirs: Model, rows: Rows, inputs: Tokens, **_: Any
) -> Iterator[dict[str, Any]]:
    for our_vector, their_vector in zip(ours.embed(inputs), theirs.embed(inputs), strict=True):
        yield {"embedding": _difference(our_vector, their_vector)}


def _compare_matching(
    ours: Model, theirs: Model, rows: Rows, inputs: Tokens, **_: Any
) -> Iterator[dict[str, Any]]:
    code = np.roll(inputs, -1, axis=0)
    our_scores, their_scores = ours.match(inputs, code), theirs.match(inputs, code)
    scale = np.abs(our_scores).max(initial=0)  # of all: a pair's own scores may be near 0
    for our_score, their_score in zip(our_scores, their_scores, strict=True):
        yield {"matching": _difference(our_score, their_score, scale=float(scale))}


_COMPARE: Mapping[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "generate": _compare_generation,
    "continue": _compare_language_models,
    "embed": _compare_embeddings,
    "match": _compare_matching,
}


def _difference(
    ours: Float[np.ndarray, "*axes"],
    theirs: Float[np.ndarray, "..."],
    *,
    scale: float | None = None,
) -> Difference:
    if ours.shape != theirs.shape:
        return Difference(absolute=np.inf, relative=np.inf)
    largest = float(np.abs(ours - theirs).max())
    scale = float(np.abs(ours).max()) if scale is None else scale
    return Difference(absolute=largest, relative=largest / scale if scale else largest)


def _tokenizer_difference(text: str, ours: OurTokenizer, theirs: Tokenizer) -> str | None:
    ids = ours.encode(text)
    if theirs.encode(text, special_tokens=False) != ids:
        return "other ids"
    before, behind = ours.prompt_bounds
    if theirs.encode(text, special_tokens=True) != [*before, *ids, *behind]:
        return "other special tokens around the text"
    if theirs.decode(ids) != text or ours.decode(ids) != text:
        return "the ids do not decode to the text"
    return None


def _generations(
    ours: list[int],
    theirs: list[int],
    *,
    model: Model,
    inputs: Int[np.ndarray, " inputs"],
    start_id: int,
) -> Mapping[str, Any]:
    same = next(
        (i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]),
        min(len(ours), len(theirs)),
    )
    tie = None
    if same < min(len(ours), len(theirs)):
        logits = model.logits(inputs[None], np.array([[start_id, *ours[:same]]], np.int32))[0, -1]
        tie = _tie(logits, ours[same], theirs[same])
    return {"generated": len(ours), "agreeing": same, "tie": tie}


def _tie(logits: Float[np.ndarray, " vocab"], ours: int, theirs: int) -> str | None:
    gap = float(logits[ours] - logits[theirs])
    if not gap <= TIE * float(np.abs(logits).max()):
        return None
    return f"tokens {ours} and {theirs} are equally likely: their logits differ by {gap:.2g}"
