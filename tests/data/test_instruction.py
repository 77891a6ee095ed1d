"""Tests of codet5p_jax.data.instruction."""

import json

import pytest
import seqio
import tensorflow as tf

from codet5p_jax.data.instruction import (
    FollowInstructions,
    InstructionSource,
    alpaca_prompt,
    read_instructions,
    tokenize_instructions,
)

REVERSE = {"instruction": "Reverse the list.", "input": "[1, 2]", "output": "[2, 1]"}
ADD = {"instruction": "Write a function that adds.", "output": "def add(a, b):\n    return a + b"}


def _write(path, values):
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def _many(count):
    return [{**ADD, "instruction": f"Add {i} to é."} for i in range(count)]


def test_prompts_are_those_of_alpaca():
    assert alpaca_prompt("Do it.") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nDo it.\n\n### Response:"
    )
    assert alpaca_prompt("Do it.", "with this") == (
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nDo it.\n\n### Input:\nwith this\n\n### Response:"
    )


def test_instructions_are_read_from_an_array_and_from_lines(tmp_path):
    expected = [REVERSE, {**ADD, "input": ""}]
    assert read_instructions(_write(tmp_path / "a.json", [REVERSE, ADD])) == expected
    lines = tmp_path / "a.jsonl"
    lines.write_text(f"{json.dumps(REVERSE)}\n\n{json.dumps(ADD)}\n")
    assert read_instructions(lines) == expected


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no array of instructions"),
        ('{"instruction": "a"}', "holds no array of instructions"),
        ('[{"instruction": "a", "output": "b"}, 7]', "Instruction 1 of .* no text for instruct"),
        ('[{"instruction": "a"}]', r'no text for output\. Each is an object \{"instruction"'),
        ('[{"instruction": "", "output": "b"}]', "no text for instruction"),
        ('[{"instruction": "a", "input": 3, "output": "b"}]', "no text for input"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, contents, message):
    (tmp_path / "a.json").write_text(contents)
    with pytest.raises(ValueError, match=message):
        read_instructions(tmp_path / "a.json")


def test_every_instruction_is_in_one_split_and_stays_there(tmp_path):
    source = InstructionSource(_write(tmp_path / "a.json", _many(400)))
    splits = {
        split: {r["instruction"] for r in source.get_dataset(split).as_numpy_iterator()}
        for split in source.splits
    }
    assert sum(map(len, splits.values())) == len(set().union(*splits.values())) == 400
    assert {split: source.num_input_examples(split) for split in splits} == {
        split: len(texts) for split, texts in splits.items()
    }
    assert 5 <= len(splits["test"]) <= 40 and 5 <= len(splits["validation"]) <= 40
    fewer = InstructionSource(_write(tmp_path / "b.json", _many(200)))
    kept = {r["instruction"] for r in fewer.get_dataset("test").as_numpy_iterator()}
    assert kept < splits["test"]


def _tokenized(tokenizer, *records):
    columns = {
        name: tf.constant([record.get(name, "") for record in records])
        for name in ("instruction", "input", "output")
    }
    return tokenize_instructions(columns, tokenizer=tokenizer)


def _examples(tokenizer, *records, **lengths):
    made = FollowInstructions(tokenizer)(
        _tokenized(tokenizer, *records), seed=tf.constant([0, 0]), sequence_length=lengths
    )
    return list(zip(made["inputs"].to_list(), made["targets"].to_list(), strict=True))


def test_prompts_are_inputs_and_answers_targets(tokenizer):
    examples = _examples(tokenizer, REVERSE, ADD, inputs=400, targets=100)
    for record, (inputs, targets) in zip((REVERSE, ADD), examples, strict=True):
        prompt = alpaca_prompt(record["instruction"], record.get("input", ""))
        assert inputs == [1, *tokenizer.encode(prompt), 2]
        assert targets == [1, *tokenizer.encode(record["output"]), 2]


def test_a_long_prompt_loses_its_middle_and_keeps_what_asks_for_the_response(tokenizer):
    long = {**REVERSE, "input": "[1, 2, 3]" * 200}
    [(inputs, targets)] = _examples(tokenizer, long, inputs=300, targets=4)
    assert len(inputs) == 300 and len(targets) == 4 and targets[-1] == 2
    text = tokenizer.decode(inputs)
    assert text.startswith("Below is") and text.endswith("\n\n### Response:")


def test_lengths_without_room_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"Instructions need \d+ tokens for 'inputs'; .* give 5"):
        _examples(tokenizer, ADD, inputs=5, targets=9)
    with pytest.raises(ValueError, match="need 3 tokens for 'targets'"):
        _examples(tokenizer, ADD, inputs=99, targets=2)


def test_no_instructions_give_no_examples(tokenizer):
    empty = dict.fromkeys(("instruction", "input", "output"), tf.constant([], tf.string))
    block = tokenize_instructions(empty, tokenizer=tokenizer)
    made = FollowInstructions(tokenizer)(
        block, seed=tf.constant([0, 0]), sequence_length={"inputs": 99, "targets": 9}
    )
    assert made["inputs"].nrows() == made["targets"].nrows() == 0


def test_the_source_is_one_of_seqio(tmp_path):
    source = InstructionSource(_write(tmp_path / "a.json", _many(60)))
    assert isinstance(source, seqio.DataSource) and set(source.splits) == {
        *("train", "validation", "test"),
    }
    [record] = source.get_dataset("train", shuffle=False).take(1).as_numpy_iterator()
    assert record["output"].decode() == ADD["output"] and record["language"] == b""
