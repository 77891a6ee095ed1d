"""Instructions and their answers (CodeT5+, section 3.3), from files in the format of Alpaca.

[{"instruction": "Reverse a list.", "input": "[1, 2]", "output": "[2, 1]"}, ...]

<s> Below is an instruction ... ### Response: </s>  ->  <s> [2, 1] </s>
"""

import dataclasses
import hashlib
import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import seqio
import tensorflow as tf

from codet5p_jax.data.blocks import Block
from codet5p_jax.data.slices import concatenate_slices, enclose, row_bounds
from codet5p_jax.data.sources import SPLITS, CorpusParser
from codet5p_jax.data.tokenization import encode_column
from codet5p_jax.tokenizer import Tokenizer

BOUNDARY_TOKENS = 2  # <s> and </s>
FIELDS = ("instruction", "input", "output")
FEATURES = (*FIELDS, "language")
HELD_OUT = 0.05  # share of the instructions in each of validation and test
END_OF_PROMPT = "\n\n### Response:"


def alpaca_prompt(instruction: str, context: str = "") -> str:
    """Returns the prompt of Alpaca (github.com/tatsu-lab/stanford_alpaca) for an instruction.

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


def read_instructions(path: str | pathlib.Path) -> list[dict[str, str]]:
    """Returns the instructions in a file: objects of `instruction`, `input` and `output`.

    Args:
        path: Of a JSON array, or of a line of JSON for each (.jsonl). `input` may be missing.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON, or an instruction lacks a field; the message says which.
    """
    path = pathlib.Path(path)
    text = path.read_text(encoding="utf-8")
    try:
        lines = [line for line in text.split("\n") if line.strip()]
        values = list(map(json.loads, lines)) if path.suffix == ".jsonl" else json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{str(path)!r} is no JSON: {error}.") from error
    if not isinstance(values, list) or not values:
        raise ValueError(f"{str(path)!r} holds no array of instructions.")
    return [_checked(value, path=path, number=number) for number, value in enumerate(values)]


@final
class InstructionSource(seqio.TFExampleDataSource):
    """The instructions of a file as a SeqIO data source; a hash of each decides on its split.

    They are few, and SeqIO and our reader want records: those go into a temporary directory, which
    this source removes when it goes.

    Attributes:
        path: The file of instructions.
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
        """Returns `inputs`, the prompts, and `targets`, the answers, cut to fit.

        A prompt that is too long loses the end of its text, but not the words that ask for the
        response.

        Raises:
            ValueError: If a length has no room.
        """
        self.check_lengths(sequence_length)
        bos, eos = self.tokenizer.bos_id, self.tokenizer.eos_id
        answers = block["answer"]
        starts, limits = row_bounds(answers)
        limits = tf.minimum(limits, starts + sequence_length["targets"] - BOUNDARY_TOKENS)
        return {
            "inputs": self._prompts(block["prompt"], sequence_length["inputs"]),
            "targets": enclose(answers.values, [bos], starts, limits, [eos]),
        }

    def check_lengths(self, sequence_length: Mapping[str, int]) -> None:
        """Raises ValueError if a side has no room for a token of text."""
        needed = {"inputs": self._end_tokens + BOUNDARY_TOKENS + 1, "targets": BOUNDARY_TOKENS + 1}
        for name, tokens in needed.items():
            if sequence_length[name] < tokens:
                raise ValueError(
                    f"Instructions need {tokens} tokens for {name!r}; the lengths give "
                    f"{sequence_length[name]}."
                )

    @property
    def _end_tokens(self) -> int:
        return len(self.tokenizer.encode(END_OF_PROMPT))

    def _prompts(self, prompts: tf.RaggedTensor, length: int) -> tf.RaggedTensor:
        starts, ends = row_bounds(prompts)
        size = tf.size(prompts.values)
        bos = tf.zeros_like(starts) + size
        end_starts = ends - self._end_tokens
        room = length - BOUNDARY_TOKENS - self._end_tokens
        values = tf.concat([prompts.values, [self.tokenizer.bos_id, self.tokenizer.eos_id]], axis=0)
        return concatenate_slices(
            values,
            tf.concat([bos, starts, end_starts, bos + 1], axis=1),
            tf.concat([bos + 1, tf.minimum(end_starts, starts + room), ends, bos + 2], axis=1),
        )


def _checked(value: Any, *, path: pathlib.Path, number: int) -> dict[str, str]:
    fields = {"input": "", **value} if isinstance(value, dict) else {}
    wrong = [name for name in FIELDS if not isinstance(fields.get(name), str)]
    wrong += [name for name in ("instruction", "output") if fields.get(name) == ""]
    if wrong:
        raise ValueError(
            f"Instruction {number} of {str(path)!r} has no text for {', '.join(wrong)}. Each is an "
            'object {"instruction": ..., "input": ..., "output": ...}; "input" may be empty.'
        )
    return {name: fields[name] for name in FIELDS}


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
