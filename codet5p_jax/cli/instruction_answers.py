"""Answers to held-out instructions while a model is tuned: what losses do not show."""

import functools
import json
import pathlib
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from codet5p_jax.decoding.generate import generate
from codet5p_jax.decoding.prompts import read_by_both
from codet5p_jax.instruction_prompt import END_OF_PROMPT, alpaca_prompt
from codet5p_jax.models.padding import padded
from codet5p_jax.tokenizer import Tokenizer
from codet5p_jax.training.program import Program
from codet5p_jax.typing import PyTree

ANSWERS_FILE = "answers.jsonl"  # in MODEL_DIR; one line per step and instruction


def answer_writer(
    program: Program,
    tokenizer: Tokenizer,
    instruction_files: Mapping[str, str],
    *,
    path: pathlib.Path | None,
    count: int,
    max_length: int,
) -> Callable[[PyTree, int], None]:
    """Returns what writes the likeliest answers of given parameters, and the step, to a file.

    A prompt longer than the streams of `program` have room for loses the end of its text, as there.

    Args:
        program: Whose model answers, on its mesh.
        tokenizer: Of the model.
        instruction_files: Name -> file; the first held-out instructions of each are asked.
        path: Where answers go; None computes them alone, with the other processes.
        count: Instructions; 1 or more.
        max_length: Tokens of an answer at most.

    Raises:
        ValueError: Nothing is held out, or `count` is below 1.
    """
    from codet5p_jax.data.instruction import held_out_instructions

    if count < 1:
        raise ValueError(f"EVAL_SAMPLES is {count}; set it to 0 for no answers, or to a count.")
    records = held_out_instructions(instruction_files, count)
    if not records:
        raise ValueError(
            f"Of the instructions of {', '.join(instruction_files.values())} none is held out, so "
            "none can be answered while the model is tuned. Set EVAL_SAMPLES = 0, or give more."
        )
    asked = [alpaca_prompt(record["instruction"], record["input"]) for record in records]
    longest = _longest_prompt(program, tokenizer)
    prompts = [read_by_both(_shortened(text, longest, tokenizer), tokenizer) for text in asked]
    inputs = padded([prompt.encoder_input_tokens for prompt in prompts], pad_id=tokenizer.pad_id)
    starts = [prompt.decoder_prompt for prompt in prompts]
    whole = NamedSharding(program.partitioner.mesh, PartitionSpec())

    @functools.partial(jax.jit, out_shardings=whole)
    def answered(params: PyTree) -> jax.Array:
        return generate(
            program.model,
            params,
            inputs,
            max_length=max(map(len, starts)) + max_length,
            prompt=padded(starts, pad_id=tokenizer.pad_id),
        ).tokens

    def write(params: PyTree, step: int) -> None:
        rows = np.asarray(answered(params))
        if path is None:
            return
        lines = _lines_before(path, step)
        for record, start, row in zip(records, starts, rows, strict=True):
            new = row[len(start) : len(start) + max_length].tolist()
            line = {"step": step, **record, "answer": tokenizer.decode(new)}
            lines.append(json.dumps(line, ensure_ascii=False))
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        partial.replace(path)  # at once: a killed run leaves whole lines, which the next one reads

    return write


def _longest_prompt(program: Program, tokenizer: Tokenizer) -> int | None:
    """Returns the tokens of a prompt that the inputs of all streams have room for."""
    lengths = [
        stream.dataset.task_feature_lengths["inputs"]
        for phase in program.curriculum.phases
        for stream in phase.streams
        if "inputs" in getattr(stream.dataset, "task_feature_lengths", {})
    ]
    return min(lengths) - sum(map(len, tokenizer.prompt_bounds)) if lengths else None


def _shortened(prompt: str, longest: int | None, tokenizer: Tokenizer) -> list[int]:
    """Returns the ids of a prompt, without the end of its text if there are more than `longest`."""
    ids = tokenizer.encode(prompt)
    if longest is None or len(ids) <= longest:
        return ids
    last = tokenizer.encode(END_OF_PROMPT)
    return ids[: max(0, longest - len(last))] + last


def _lines_before(path: pathlib.Path, step: int) -> list[str]:
    """Returns the lines of earlier steps: a run that began again writes its later ones anew."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [line for line in lines if line and json.loads(line)["step"] < step]
