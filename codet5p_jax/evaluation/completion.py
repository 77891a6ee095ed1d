"""Line completion: the decoder reads lines of a held-out file and writes the next one.

The model is a decoder-only language model: its encoder reads `[CLM]` alone (paper, section 3.1 and
the line completion of appendix D). An example is a line of a file and the tokens before it:

    context   <s> tokens up to the last character before the line that is no whitespace; without
              <s> where the decoder's start is what begins a sequence
    target    the line break, blank lines, indentation and the line, up to its own line break

Decoding is greedy. The prediction is the first line written that is not blank. Lines are compared
without the whitespace around them, as the tokenised lines of CodeXGLUE are.
"""

import dataclasses
import difflib
import functools
import hashlib
import itertools
import operator
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from codet5p_jax.data.corpus_records import read_records
from codet5p_jax.decoding.generate import generate
from codet5p_jax.evaluation.losses import TrainedModel
from codet5p_jax.evaluation.metrics import bootstrap_mean, token_cross_entropy
from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.padding import padded
from codet5p_jax.tokenizer import Tokenizer
from codet5p_jax.typing import PyTree, WeightedMean

SAMPLE_CONTEXT_LINES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A held-out file.

    Attributes:
        code: Its text.
        language: Programming language.
        source: Repository and path; tells files apart.
    """

    code: str
    language: str
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompletionSetting:
    """Which lines are asked for.

    Attributes:
        length: Tokens of the decoder, `<s>`, context and target together; as in finetuning.
        line_tokens: Most tokens of a target; longer ones are left out.
        least_context: Fewest tokens of a context; lines with less before them are left out.
        least_characters: Shorter lines, such as `}` or `else:`, are left out: they need no model.
        lines_per_file: Most lines of one file.
        examples: Most examples.
        seed: Another seed asks for other lines.
        batch_size: Rows of a batch.
    """

    length: int
    line_tokens: int = 32
    least_context: int = 24
    least_characters: int = 8
    lines_per_file: int = 8
    examples: int = 400
    seed: int = 0
    batch_size: int = 50

    def __post_init__(self) -> None:
        """Raises ValueError when no context fits."""
        if self.length < self.least_context + self.line_tokens + 1:
            raise ValueError(
                f"Line completion needs {self.least_context + self.line_tokens + 1} tokens: <s>, "
                f"{self.least_context} of context, {self.line_tokens} of the line; the decoder's "
                f"length is {self.length}. Raise COMPLETION_LENGTH, or ask for shorter lines."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompletionExample:
    """A line to complete.

    Attributes:
        context: Ids before the line, without `<s>`; the last `length - line_tokens - 1` of them.
        target: Ids of the line, with the whitespace before it.
        line: The line without the whitespace around it.
        language: Programming language.
        source: Repository, path and line number, from 1.
    """

    context: tuple[int, ...]
    target: tuple[int, ...]
    line: str
    language: str
    source: str


def read_files(corpus_dir: str | pathlib.Path, *, split: str = "test") -> list[SourceFile]:
    """Returns the files of a corpus; the only function here that needs TensorFlow.

    Raises:
        FileNotFoundError: If the corpus has no `code_files`.
    """
    return [
        SourceFile(
            code=record["code"],
            language=record["language"],
            source=f"{record['repository']}/{record['path']}",
        )
        for record in read_records("code_files", corpus_dir=corpus_dir, split=split)
    ]


def completion_examples(
    files: Iterable[SourceFile], tokenizer: Tokenizer, setting: CompletionSetting
) -> list[CompletionExample]:
    """Returns lines to complete, chosen by SHA-256 of seed, file and line number.

    Raises:
        ValueError: If no line of the files fits the setting.
    """
    chosen = [
        example
        for file in files
        for example in itertools.islice(
            _file_examples(file, tokenizer, setting), setting.lines_per_file
        )
    ]
    if not chosen:
        raise ValueError(
            f"The held-out files hold no line with {setting.least_context} tokens before it and at "
            f"most {setting.line_tokens} of its own. Build a larger corpus, or lower "
            "CompletionSetting.least_context."
        )
    return sorted(chosen, key=lambda each: _order(each.source, setting.seed))[: setting.examples]


def complete_lines(
    trained: TrainedModel,
    tokenizer: Tokenizer,
    examples: Sequence[CompletionExample],
    *,
    setting: CompletionSetting,
) -> list[str]:
    """Returns the line that the model writes for each example, without the whitespace around it."""
    prompt_length = setting.length - setting.line_tokens
    prefix = tokenizer.target_prefix
    lines: list[str] = []
    for batch in _batches(examples, setting.batch_size):
        contexts = [(*prefix, *example.context) for example in batch]
        spare = [prefix] * (setting.batch_size - len(batch))
        prompts = padded([*contexts, *spare], pad_id=tokenizer.pad_id, length=prompt_length)
        generations = generate(
            trained.model,
            trained.params,
            _encoder_rows(tokenizer, len(prompts)),
            max_length=setting.length,
            prompt=prompts,
        )
        written = np.asarray(generations.tokens)
        lines += [
            first_line(tokenizer.decode(row[len(context) :].tolist()))
            for row, context in zip(written, contexts, strict=False)
        ]
    return lines


def completion_loss(
    trained: TrainedModel,
    tokenizer: Tokenizer,
    examples: Sequence[CompletionExample],
    *,
    setting: CompletionSetting,
) -> WeightedMean:
    """Returns the summed nats of the targets, each token given those before it, and their count."""
    losses = []
    for batch in _batches(examples, setting.batch_size):
        tokens, weights = map(jnp.asarray, _target_rows(batch, tokenizer, setting))
        encoder_tokens = _encoder_rows(tokenizer, len(tokens))
        losses.append(_loss(trained.model, trained.params, encoder_tokens, tokens, weights))
    return functools.reduce(operator.add, losses)


def completion_quality(
    trained: TrainedModel,
    tokenizer: Tokenizer,
    examples: Sequence[CompletionExample],
    *,
    setting: CompletionSetting,
    samples: int = 5,
) -> dict[str, Any]:
    """Returns exact match, edit similarity and loss of line completion as JSON values.

    Args:
        trained: The model.
        tokenizer: Its tokenizer.
        examples: Lines to complete.
        setting: What the examples were made with.
        samples: First examples to show with what the model wrote.
    """
    lines = complete_lines(trained, tokenizer, examples, setting=setting)
    references = [example.line for example in examples]
    pairs = list(zip(lines, references, strict=True))
    loss = completion_loss(trained, tokenizer, examples, setting=setting)
    return {
        "examples": len(examples),
        "exact_match": _estimate([float(a == b) for a, b in pairs]),
        "edit_similarity": _estimate([edit_similarity(a, b) for a, b in pairs]),
        "loss": float(loss.compute()),
        "tokens": int(loss.weight),
        "setting": dataclasses.asdict(setting),
        "samples": [
            {
                "source": example.source,
                "language": example.language,
                "prompt": _last_lines(tokenizer.decode(example.context)),
                "reference": example.line,
                "output": line,
            }
            for example, line in list(zip(examples, lines, strict=True))[:samples]
        ],
    }


def edit_similarity(prediction: str, reference: str) -> float:
    """Returns 2 M / T, from 0 to 1: M characters in matching blocks, T characters of both.

    fuzzywuzzy's `ratio`, which CodeXGLUE's line completion takes, before it is made a whole
    per cent; both count the blocks that Python's difflib finds (Ratcliff and Obershelp). Two empty
    lines are equal.

        edit_similarity("abcd", "abxd") -> 0.75
    """
    return difflib.SequenceMatcher(None, prediction, reference).ratio()


def first_line(text: str) -> str:
    """Returns the first line that is not blank, without the whitespace around it; "" for none."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _file_examples(
    file: SourceFile, tokenizer: Tokenizer, setting: CompletionSetting
) -> Iterator[CompletionExample]:
    """Yields the lines of a file that fit, in the order of their hash."""
    spans = _line_spans(file.code, least_characters=setting.least_characters)
    most = setting.length - setting.line_tokens - 1
    for number, begin, end in sorted(
        spans, key=lambda span: _order(f"{file.source}:{span[0]}", setting.seed)
    ):
        context = tokenizer.encode(file.code[:begin])
        target = tokenizer.encode(file.code[begin:end])
        if len(context) >= setting.least_context and len(target) <= setting.line_tokens:
            yield CompletionExample(
                context=tuple(context[-most:]),
                target=tuple(target),
                line=file.code[begin:end].strip(),
                language=file.language,
                source=f"{file.source}:{number}",
            )


def _line_spans(code: str, *, least_characters: int) -> list[tuple[int, int, int]]:
    """Returns (number, begin, end) of long enough lines; begin is where the context ends.

    A context ends behind a character that is no whitespace, and a line before its line break: there
    the tokenizer splits words, so that both parts have the ids they have in the whole file.
    """
    spans = []
    position = 0
    for number, line in enumerate(code.split("\n"), start=1):
        begin = len(code[:position].rstrip())
        end = position + len(line.rstrip())
        if begin and len(line.strip()) >= least_characters:
            spans.append((number, begin, end))
        position += len(line) + 1
    return spans


def _order(source: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{source}".encode()).digest()


def _batches(
    examples: Sequence[CompletionExample], size: int
) -> Iterable[Sequence[CompletionExample]]:
    return (examples[first : first + size] for first in range(0, len(examples), size))


def _encoder_rows(tokenizer: Tokenizer, rows: int) -> Int[np.ndarray, "rows inputs"]:
    return np.full([rows, 1], tokenizer.clm_id, np.int32)


def _target_rows(
    batch: Sequence[CompletionExample], tokenizer: Tokenizer, setting: CompletionSetting
) -> tuple[Int[np.ndarray, "batch targets"], Float[np.ndarray, "batch targets"]]:
    """Returns the tokens of each row and 1 at those of the target; rows to spare weigh nothing."""
    ids = [(*tokenizer.target_prefix, *each.context, *each.target) for each in batch]
    spare = [()] * (setting.batch_size - len(batch))
    tokens = padded([*ids, *spare], pad_id=tokenizer.pad_id, length=setting.length)
    weights = np.zeros(tokens.shape, np.float32)
    for weight, row, example in zip(weights, ids, batch, strict=False):
        weight[len(row) - len(example.target) : len(row)] = 1
    return tokens, weights


@functools.partial(jax.jit, static_argnames="model")
def _loss(
    model: CodeT5p,
    params: PyTree,
    encoder_tokens: Int[np.ndarray | jax.Array, "batch inputs"],
    tokens: Int[jax.Array, "batch targets"],
    weights: Float[jax.Array, "batch targets"],
) -> WeightedMean:
    start_id = model.config.start_id
    shifted = jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=start_id)
    logits: Any = model.apply({"params": params}, encoder_tokens, shifted)
    return token_cross_entropy(logits, tokens, weights)


def _estimate(values: Sequence[float]) -> dict[str, Any]:
    return bootstrap_mean(np.array(values)).to_dict()


def _last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-SAMPLE_CONTEXT_LINES:])
