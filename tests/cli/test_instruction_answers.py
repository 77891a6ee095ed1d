"""Tests of codet5p_jax.cli.instruction_answers."""

import dataclasses
import functools
import json
import types

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from codet5p_jax.cli.instruction_answers import answer_writer
from codet5p_jax.decoding.generate import generate
from codet5p_jax.instruction_prompt import END_OF_PROMPT, alpaca_prompt
from codet5p_jax.loaded_model import LoadedModel
from codet5p_jax.models.codet5p import CodeT5p, fresh_params
from codet5p_jax.models.sizes import model_config
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.tokenizer import train_tokenizer
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
from codet5p_jax.training.optimizer import adamw
from codet5p_jax.training.partitioning import Partitioner
from codet5p_jax.training.program import Program


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["def mean(values):\n    return\n" * 9], 280, min_frequency=1)


@pytest.fixture(scope="module")
def program():
    """Of eight devices, over which the heads of the model are spread."""
    config = dataclasses.replace(model_config("codet5p_test"), vocab_size=383)
    model = CodeT5p(config)
    stream = Stream(name="a", objective=Seq2SeqObjective(model=model), dataset=None)
    return Program(
        curriculum=Curriculum(phases=[Phase(name="a", steps=1, streams=[stream])]),
        learning_rate=optax.constant_schedule(1e-3),
        optimizer=adamw,
        partitioner=Partitioner(),
    )


@pytest.fixture(scope="module")
def instruction_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "alpaca.json"
    records = [{"instruction": f"Add {n}.", "input": "", "output": "x"} for n in range(60)]
    path.write_text(json.dumps(records))
    return str(path)


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_are_what_the_model_generates(program, tokenizer, instruction_file, tmp_path):
    path = tmp_path / "answers.jsonl"
    files = {"a": instruction_file}
    write = answer_writer(program, tokenizer, files, path=path, count=2, max_length=5)
    params = nn.unbox(jax.jit(functools.partial(fresh_params, program.model))(jax.random.key(1)))
    write(params, 7)
    lines = _lines(path)
    loaded = LoadedModel(model=program.model, params=params, tokenizer=tokenizer)
    asked = [line["instruction"] for line in lines]
    expected = loaded.generate(asked, task="instruct", max_length=5)
    assert [line["answer"] for line in lines] == [
        tokenizer.decode(tokenizer.encode(text)) for text in expected
    ]
    assert [line["step"] for line in lines] == [7, 7]


def test_a_run_that_goes_back_writes_its_later_steps_anew(
    program, tokenizer, instruction_file, tmp_path
):
    path = tmp_path / "answers.jsonl"
    files = {"a": instruction_file}
    write = answer_writer(program, tokenizer, files, path=path, count=1, max_length=2)
    params = nn.unbox(jax.jit(functools.partial(fresh_params, program.model))(jax.random.key(1)))
    for step in (10, 20, 30, 20):
        write(params, step)
    assert [line["step"] for line in _lines(path)] == [10, 20]


def test_a_prompt_that_is_longer_than_in_training_is_cut_as_there(program, tokenizer, tmp_path):
    """Its words ask for the response still; without that, memory would grow with its square."""
    (stream,) = program.curriculum.phases[0].streams
    lengths = types.SimpleNamespace(task_feature_lengths={"inputs": 300, "targets": 9})
    phase = Phase(name="a", steps=1, streams=[dataclasses.replace(stream, dataset=lengths)])
    short = dataclasses.replace(program, curriculum=Curriculum(phases=[phase]))
    records = [
        {"instruction": f"{n}", "input": "x = 1\n" * 90_000, "output": "x"} for n in range(60)
    ]
    (tmp_path / "long.json").write_text(json.dumps(records))
    path, files = tmp_path / "answers.jsonl", {"a": str(tmp_path / "long.json")}
    write = answer_writer(short, tokenizer, files, path=path, count=1, max_length=3)
    params = nn.unbox(jax.jit(functools.partial(fresh_params, program.model))(jax.random.key(1)))
    write(params, 1)
    (line,) = _lines(path)
    before, after = tokenizer.prompt_bounds
    end = tokenizer.encode(END_OF_PROMPT)
    kept = tokenizer.encode(alpaca_prompt(line["instruction"], line["input"]))
    prompt = [*kept[: 300 - len(before) - len(after) - len(end)], *end]
    tokens = generate(
        program.model,
        params,
        np.array([[*before, *prompt, *after]], np.int32),
        max_length=len(tokenizer.target_prefix) + len(prompt) + 3,
        prompt=np.array([[*tokenizer.target_prefix, *prompt]], np.int32),
    ).tokens
    assert line["answer"] == tokenizer.decode(np.asarray(tokens)[0, -3:].tolist())


def test_fewer_than_none_are_an_error(program, tokenizer, instruction_file):
    files = {"a": instruction_file}
    with pytest.raises(ValueError, match=r"EVAL_SAMPLES is -1; set it to 0 for no answers"):
        answer_writer(program, tokenizer, files, path=None, count=-1, max_length=2)


def test_a_write_that_fails_leaves_what_was_there(
    program, tokenizer, instruction_file, tmp_path, monkeypatch
):
    path, files = tmp_path / "answers.jsonl", {"a": instruction_file}
    write = answer_writer(program, tokenizer, files, path=path, count=1, max_length=2)
    params = nn.unbox(jax.jit(functools.partial(fresh_params, program.model))(jax.random.key(1)))
    write(params, 1)
    before = path.read_text()

    def full_disk(self, text, encoding):
        with open(self, "w", encoding=encoding) as file:
            file.write(text[:9])
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write(params, 2)
    assert path.read_text() == before


def test_a_process_without_a_file_writes_none(program, tokenizer, instruction_file, tmp_path):
    files = {"a": instruction_file}
    write = answer_writer(program, tokenizer, files, path=None, count=1, max_length=2)
    write(nn.unbox(fresh_params(program.model, jax.random.key(1))), 1)
    assert not list(tmp_path.iterdir())


def test_files_that_hold_nothing_out_are_an_error(program, tokenizer, tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps([{"instruction": "Add 1.", "input": "", "output": "x"}]))
    with pytest.raises(ValueError, match=r"none is held out.* Set EVAL_SAMPLES = 0, or give more"):
        answer_writer(program, tokenizer, {"a": str(path)}, path=None, count=2, max_length=2)
