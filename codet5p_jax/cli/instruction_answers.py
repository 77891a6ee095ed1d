"""Answers to held-out instructions while a model is tuned: what losses do not show."""

import functools
import json
import pathlib
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from codet5p_jax.decoding.generate import generate
from codet5p_jax.decoding.prompts import continue_in_both
from codet5p_jax.instruction_prompt import alpaca_prompt
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

    Args:
        program: Whose model answers, on its mesh.
        tokenizer: Of the model.
        instruction_files: Name -> file; the first held-out instructions of each are asked.
        path: Where answers go; None computes them alone, with the other processes.
        count: Instructions.
        max_length: Tokens of an answer at most.

    Raises:
        ValueError: Nothing is held out.
    """
    from codet5p_jax.data.instruction import held_out_instructions

    records = held_out_instructions(instruction_files, count)
    if not records:
        raise ValueError(
            f"Of the instructions of {', '.join(instruction_files.values())} none is held out, so "
            "none can be answered while the model is tuned. Set EVAL_SAMPLES = 0, or give more."
        )
    prompts = [
        continue_in_both(alpaca_prompt(record["instruction"], record["input"]), tokenizer)
        for record in records
    ]
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
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    return write


def _lines_before(path: pathlib.Path, step: int) -> list[str]:
    """Returns the lines of earlier steps: a run that began again writes its later ones anew."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [line for line in lines if line and json.loads(line)["step"] < step]
