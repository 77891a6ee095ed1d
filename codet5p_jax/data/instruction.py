"""Instructions and their answers (CodeT5+, section 3.3), from files in the format of Alpaca.

[{"instruction": "Reverse a list.", "input": "[1, 2]", "output": "[2, 1]"}, ...]

The encoder reads the prompt. The decoder reads prompt and answer, and the loss is on the answer and
its end alone, as in the released instruction tuning: a frozen left-to-right decoder must read what
it goes on from.

inputs        <s> Below is an instruction ... ### Response: </s>
targets       <s> Below is an instruction ... ### Response: [2, 1] </s>
loss_weights   0     0  0  0      0             0      0     1  1   1

With CodeGen's tokenizer the inputs are the prompt alone, and <|endoftext|>, the decoder's start, is
the only token before the targets. Prompt and answer are encoded apart, as they are when a model is
asked: together, ":[" would be one token, of which half is given.
"""

import dataclasses
import hashlib
import itertools
import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import seqio
import tensorflow as tf

from codet5p_jax.data.blocks import Block
from codet5p_jax.data.sequences import LOSS_WEIGHTS
from codet5p_jax.data.slices import concatenate_slices, enclose, row_bounds
from codet5p_jax.data.sources import SPLITS, CorpusParser
from codet5p_jax.data.tokenization import encode_column
from codet5p_jax.instruction_prompt import END_OF_PROMPT, alpaca_prompt
from codet5p_jax.tokenizer import Tokenizer

FIELDS = ("instruction", "input", "output")
FEATURES = (*FIELDS, "language")
HELD_OUT = 0.05  # share of the instructions in each of validation and test
ANSWER_SHARE = 4  # a prompt leaves a fourth of the targets to the answer
BAD_LISTED = 10


def read_instructions(path: str | pathlib.Path) -> list[dict[str, str]]:
    """Returns the instructions in a file: objects of `instruction`, `input` and `output`.

    Args:
        path: Of a JSON array, or of a line of JSON for each (.jsonl). `input` may be missing; what
            else an object holds is left alone.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON, or instructions lack a field; the message says which.
    """
    path = pathlib.Path(path)
    values = _read_lines(path) if path.suffix == ".jsonl" else _read_array(path)
    if not values:
        raise ValueError(f"{str(path)!r} holds no array of instructions.")
    reasons = {place: _reason(value) for place, value in values.items()}
    bad = {place: reason for place, reason in reasons.items() if reason}
    if bad:
        listed = "; ".join(f"{place} {reason}" for place, reason in list(bad.items())[:BAD_LISTED])
        raise ValueError(
            f"{len(bad):,} of {len(values):,} instructions of {str(path)!r} cannot be used: "
            f"{listed}{'; ...' * (len(bad) > BAD_LISTED)}. Mend them or leave them out: each is an "
            'object {"instruction": ..., "input": ..., "output": ...} of texts; "input" may be "".'
        )
    return [{name: value.get(name, "") for name in FIELDS} for value in values.values()]


def held_out_instructions(
    files: Mapping[str, str | pathlib.Path], count: int
) -> list[dict[str, str]]:
    """Returns the first instructions of the files' validation split, in turn of each file.

    Args:
        files: Name -> file, as `read_instructions` takes.
        count: Instructions at most.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is not in the format of Alpaca.
    """
    held_out = [
        [r for r in read_instructions(f) if _split(r) == "validation"] for f in files.values()
    ]
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*held_out))
    return list(itertools.islice((record for record in in_turn if record is not None), count))


def fingerprint(path: str | pathlib.Path) -> str:
    """Returns the SHA-256 of a file, in hex digits."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


@final
class InstructionSource(seqio.TFExampleDataSource):
    """The instructions of a file as a SeqIO data source; a hash of each decides on its split.

    They are few, and SeqIO and our reader want records: those go into a temporary directory, which
    this source removes when it goes.

    Attributes:
        path: The file of instructions.
        fingerprint: SHA-256 of the file, in hex digits.
        language: Of all records, as `CorpusSource` has it; instructions have none.
    """

    language = ""

    def __init__(self, path: str | pathlib.Path):
        """Reads the file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not in the format of Alpaca; the message says what is wrong.
        """
        self.path = str(path)
        records = read_instructions(path)
        self.fingerprint = fingerprint(path)
        self._directory = tempfile.TemporaryDirectory(prefix="codet5p_instructions_")
        files = {name: str(pathlib.Path(self._directory.name, name)) for name in SPLITS}
        counts = dict.fromkeys(SPLITS, 0)
        for split, file in files.items():
            with tf.io.TFRecordWriter(file) as writer:
                for record in records:
                    if _split(record) == split:
                        writer.write(_serialized(record))
                        counts[split] += 1
        super().__init__(
            split_to_filepattern=files,
            feature_description={n: tf.io.FixedLenFeature([], tf.string) for n in FEATURES},
            num_input_examples=counts,
        )

    @property
    def parser(self) -> CorpusParser:
        """What turns serialized records into a block."""
        return CorpusParser(tuple(sorted(FEATURES)))


def tokenize_instructions(
    block: Block,
    *,
    tokenizer: Tokenizer,
    seed: object = None,
    sequence_length: Mapping[str, int] | None = None,
) -> Block:
    """Returns ids of the prompts as `prompt`, and of the answers as `answer`."""

    def prompts(instructions: np.ndarray, contexts: np.ndarray) -> np.ndarray:
        pairs = zip(instructions, contexts, strict=True)
        made = [alpaca_prompt(i.decode("utf-8"), c.decode("utf-8")) for i, c in pairs]
        return np.array([prompt.encode("utf-8") for prompt in made], object)

    texts = tf.numpy_function(prompts, [block["instruction"], block["input"]], tf.string)
    return {
        "prompt": encode_column(texts, tokenizer),
        "answer": encode_column(block["output"], tokenizer),
    }


@dataclasses.dataclass(frozen=True)
class FollowInstructions:
    """The block function of the instruction tasks.

    Attributes:
        tokenizer: Its ids are used.
    """

    tokenizer: Tokenizer

    def __call__(
        self, block: Block, *, seed: tf.Tensor, sequence_length: Mapping[str, int]
    ) -> Block:
        """Returns `inputs`, the prompts; `targets`, prompts and answers; and `loss_weights`.

        What is too long is cut. A prompt loses the end of its text, but not the words that ask for
        the response, and is the same on both sides. It leaves a quarter of the targets to an answer
        that long. An answer loses its end, and then has no `</s>`: it would teach to stop there.

        Raises:
            ValueError: If a length has no room.
        """
        self.check_lengths(sequence_length)
        before, after = self.tokenizer.prompt_bounds
        answers, room = block["answer"], sequence_length["targets"] - self._prefix_tokens
        starts, limits = row_bounds(answers)
        ended = limits - starts + 1  # with </s>
        reserved = tf.minimum(ended, sequence_length["targets"] // ANSWER_SHARE)
        most = sequence_length["inputs"] - len(before) - len(after)
        prompts = self._shortened(block["prompt"], tf.minimum(most, room - reserved))
        prompt_starts, prompt_limits = row_bounds(prompts)
        prompt_tokens = prompt_limits - prompt_starts
        targets = self._joined(prompts, answers, tf.minimum(ended, room - prompt_tokens))
        return {
            "inputs": enclose(
                prompts.values, list(before), prompt_starts, prompt_limits, list(after)
            ),
            "targets": targets,
            LOSS_WEIGHTS: _ones_behind(targets, self._prefix_tokens + prompt_tokens),
        }

    def check_lengths(self, sequence_length: Mapping[str, int]) -> None:
        """Raises ValueError if a side has no room for a token of text."""
        bounds = sum(map(len, self.tokenizer.prompt_bounds))
        prompted = self._prefix_tokens + self._end_tokens + 1
        targets = next(n for n in itertools.count(prompted) if n - n // ANSWER_SHARE >= prompted)
        needed = {"inputs": self._end_tokens + bounds + 1, "targets": targets}
        for name, tokens in needed.items():
            if sequence_length[name] < tokens:
                raise ValueError(
                    f"Instructions need {tokens} tokens for {name!r}; the lengths give "
                    f"{sequence_length[name]}."
                )

    @property
    def _prefix_tokens(self) -> int:
        return len(self.tokenizer.target_prefix)

    @property
    def _end_tokens(self) -> int:
        return len(self.tokenizer.encode(END_OF_PROMPT))

    def _shortened(self, prompts: tf.RaggedTensor, most: tf.Tensor) -> tf.RaggedTensor:
        """Returns prompts of at most so many tokens, int32 [rows, 1], with their last words."""
        starts, ends = row_bounds(prompts)
        last = ends - self._end_tokens
        limits = tf.minimum(last, starts + most - self._end_tokens)
        return concatenate_slices(
            prompts.values, tf.concat([starts, last], axis=1), tf.concat([limits, ends], axis=1)
        )

    def _joined(
        self, prompts: tf.RaggedTensor, answers: tf.RaggedTensor, tokens: tf.Tensor
    ) -> tf.RaggedTensor:
        """Returns the prompts, each followed by so many tokens of its answer and `</s>`."""
        ended = enclose(answers.values, [], *row_bounds(answers), [self.tokenizer.eos_id])
        prefix_ids = tf.constant(self.tokenizer.target_prefix, tf.int32)
        values = tf.concat([prefix_ids, prompts.values, ended.values], axis=0)
        starts, limits = (self._prefix_tokens + bound for bound in row_bounds(prompts))
        answer_starts = tf.size(prompts.values) + self._prefix_tokens + row_bounds(ended)[0]
        prefix = tf.zeros_like(starts)
        return concatenate_slices(
            values,
            tf.concat([prefix, starts, answer_starts], axis=1),
            tf.concat([prefix + self._prefix_tokens, limits, answer_starts + tokens], axis=1),
        )


def _ones_behind(rows: tf.RaggedTensor, counts: tf.Tensor) -> tf.RaggedTensor:
    """Returns rows as long, 0 at the first so many positions, int32 [rows, 1], and 1 behind."""
    lengths = tf.cast(rows.row_lengths(), tf.int32)
    positions = tf.ragged.range(lengths, row_splits_dtype=tf.int32)
    weights = tf.cast(positions.values >= tf.repeat(counts[:, 0], lengths), tf.int32)
    return positions.with_values(weights)


def _read_array(path: pathlib.Path) -> dict[str, Any]:
    try:
        values = _parsed(_read_text(path), str(path))
    except ValueError as error:
        raise ValueError(f"{error} A file of one object to a line is named .jsonl.") from error
    if not isinstance(values, list):
        raise ValueError(f"{str(path)!r} holds no array of instructions.")
    return {f"number {number}": value for number, value in enumerate(values, start=1)}


def _read_lines(path: pathlib.Path) -> dict[str, Any]:
    lines = enumerate(_read_text(path).split("\n"), start=1)
    return {
        f"line {number}": _parsed(line, f"{path}:{number}")
        for number, line in lines
        if line.strip()
    }


def _read_text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is no text in UTF-8: {error}.") from error


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of 5,000 digits, brackets without end
        raise ValueError(f"{place!r} is no JSON: {error}.") from error


def _reason(value: Any) -> str | None:
    """Returns why a value is no instruction, or None where it is one."""
    if not isinstance(value, dict):
        return f"is no object but {json.dumps(value)[:40]}"
    fields = {"input": "", **value}
    missing = [name for name in FIELDS if not isinstance(fields.get(name), str)]
    missing += [name for name in ("instruction", "output") if not str(fields.get(name, "")).strip()]
    if missing:
        return f"has no text for {', '.join(dict.fromkeys(missing))}"
    broken = [name for name in FIELDS if not _is_text(fields[name])]
    return f"has half a character in {', '.join(broken)}" if broken else None


def _is_text(text: str) -> bool:
    """Whether it can be written in UTF-8; JSON may hold halves of surrogate pairs."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _split(record: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps([record["instruction"], record["input"]]).encode()).digest()
    share = int.from_bytes(digest[:6]) / 2**48
    if share < HELD_OUT:
        return "test"
    return "validation" if share < 2 * HELD_OUT else "train"


def _serialized(record: Mapping[str, str]) -> bytes:
    features = {
        name: tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[record.get(name, "").encode("utf-8")])
        )
        for name in FEATURES
    }
    message = tf.train.Example(features=tf.train.Features(feature=features))
    return message.SerializeToString(deterministic=True)
