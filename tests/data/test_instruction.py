"""Tests of codet5p_jax.data.instruction."""

import json

import pytest
import seqio
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from codet5p_jax.data.instruction import (
    FollowInstructions,
    InstructionSource,
    read_instructions,
    tokenize_instructions,
)
from codet5p_jax.instruction_prompt import alpaca_prompt

REVERSE = {"instruction": "Reverse the list.", "input": "[1, 2]", "output": "[2, 1]"}
ADD = {"instruction": "Write a function that adds.", "output": "def add(a, b):\n    return a + b"}


def _write(path, values):
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def _many(count):
    return [{**ADD, "instruction": f"Add {i} to é."} for i in range(count)]


def test_instructions_are_read_from_an_array_and_from_lines(tmp_path):
    expected = [REVERSE, {**ADD, "input": ""}]
    assert read_instructions(_write(tmp_path / "a.json", [REVERSE, ADD])) == expected
    lines = tmp_path / "a.jsonl"
    lines.write_text(f"{json.dumps(REVERSE)}\n\n{json.dumps(ADD)}\n")
    assert read_instructions(lines) == expected
    # As Windows writes them.
    lines.write_bytes(f"\ufeff{json.dumps(REVERSE)}\r\n{json.dumps(ADD)}\r\n".encode())
    assert read_instructions(lines) == expected


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("{", r"a\.json' is no JSON.* is named \.jsonl"),
        ("[" * 100_000, r"a\.json' is no JSON: maximum recursion depth"),
        ("9" * 5_000, r"a\.json' is no JSON: Exceeds the limit"),
        (b"\xff", "is no text in UTF-8"),
        ("[]", "holds no array of instructions"),
        ('{"instruction": "a"}', "holds no array of instructions"),
        ("7", "holds no array of instructions"),
        ('[{"instruction": "a", "output": "b"}, 7]', "1 of 2 .* used: number 2 is no object but 7"),
        ('[{"instruction": "a"}]', r'no text for output\. Mend.* is an object \{"instruction"'),
        ('[{"instruction": " ", "output": "b"}]', r"has no text for instruction\."),
        ('[{"instruction": "a", "input": 3, "output": "b"}]', r"no text for input\."),
        ('[{"input": null}]', r"no text for instruction, input, output\."),
        (r'[{"instruction": "a", "output": "\ud800"}]', "has half a character in output"),
        (
            json.dumps([{"output": "b"}] * 12),
            r"12 of 12 .* number 10 has no text for instruction; \.\.\.\.",
        ),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, contents, message):
    bytes_ = contents if isinstance(contents, bytes) else contents.encode()
    (tmp_path / "a.json").write_bytes(bytes_)
    with pytest.raises(ValueError, match=message):
        read_instructions(tmp_path / "a.json")


def test_lines_that_are_no_instructions_are_named_by_their_number(tmp_path):
    lines = tmp_path / "a.jsonl"
    lines.write_text(f"{json.dumps(ADD)}\n\n{json.dumps({'instruction': 'a'})}\n")
    with pytest.raises(ValueError, match=r"1 of 2 .*: line 3 has no text for output"):
        read_instructions(lines)
    lines.write_text(f"{json.dumps(ADD)}\n{{\n")
    with pytest.raises(ValueError, match=r"a\.jsonl:2' is no JSON"):
        read_instructions(lines)
    lines.write_text("\n")
    with pytest.raises(ValueError, match="holds no array of instructions"):
        read_instructions(lines)


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
    """(inputs, targets without a loss, targets with one) of each record."""
    made = FollowInstructions(tokenizer)(
        _tokenized(tokenizer, *records), seed=tf.constant([0, 0]), sequence_length=lengths
    )
    rows = zip(*(made[n].to_list() for n in ("inputs", "targets", "loss_weights")), strict=True)
    return [_example(*row) for row in rows]


def _example(inputs, targets, weights):
    first = weights.index(1)
    assert len(weights) == len(targets) and weights[:first] == [0] * first
    assert weights[first:] == [1] * (len(targets) - first)
    return inputs, targets[:first], targets[first:]


@pytest.fixture(params=["codet5", "codegen"])
def either(request, tokenizer, codegen):
    return tokenizer if request.param == "codet5" else codegen


def test_the_decoder_reads_prompt_and_answer_and_the_loss_is_on_the_answer(tokenizer):
    examples = _examples(tokenizer, REVERSE, ADD, inputs=400, targets=500)
    for record, (inputs, read, answered) in zip((REVERSE, ADD), examples, strict=True):
        prompt = tokenizer.encode(alpaca_prompt(record["instruction"], record.get("input", "")))
        assert inputs == [1, *prompt, 2]
        assert read == [1, *prompt]
        assert answered == [*tokenizer.encode(record["output"]), 2]


def test_codegen_reads_the_bare_prompt_as_the_released_models_do(codegen):
    """What its decoder reads before the prompt is its start, <|endoftext|>."""
    [(inputs, read, answered)] = _examples(codegen, REVERSE, inputs=400, targets=500)
    prompt = codegen.encode(alpaca_prompt("Reverse the list.", "[1, 2]"))
    assert inputs == read == prompt
    assert answered == [*codegen.encode("[2, 1]"), codegen.eos_id]


def test_a_long_prompt_loses_its_middle_and_keeps_what_asks_for_the_response(either):
    long = {**REVERSE, "input": "[1, 2, 3]" * 200}
    [(inputs, read, answered)] = _examples(either, long, inputs=300, targets=400)
    assert len(inputs) == 300 and either.decode(inputs) == either.decode(read)
    text = either.decode(inputs)
    assert text.startswith("Below is") and text.endswith("\n\n### Response:")
    assert either.decode(answered) == "[2, 1]" and answered[-1] == either.eos_id


def test_a_long_prompt_leaves_a_quarter_of_the_targets_to_a_long_answer(either):
    both = {**REVERSE, "input": "[1, 2, 3]" * 200, "output": "x = 1\n" * 200}
    short = {**both, "output": "x = 1"}
    cut, whole = _examples(either, both, short, inputs=900, targets=400)
    for inputs, read, answered in (cut, whole):
        assert len(read) + len(answered) == 400
        assert either.decode(inputs) == either.decode(read)
        assert either.decode(read).endswith("\n\n### Response:")
    assert len(cut[2]) == 100 and either.eos_id not in cut[2]
    assert either.decode(whole[2]) == "x = 1" and whole[2][-1] == either.eos_id


def test_an_answer_that_is_cut_does_not_end(either):
    """An end behind half an answer would teach to stop there."""
    answer = either.encode("def f(x):\n    return x\n" * 60)
    record = {**REVERSE, "output": either.decode(answer)}
    prompt = len(either.encode(alpaca_prompt(REVERSE["instruction"], REVERSE["input"])))
    exact = len(either.target_prefix) + prompt + len(answer) + 1
    for targets, expected in (
        (exact, [*answer, either.eos_id]),
        (exact - 1, answer),
        (exact - 9, answer[:-8]),
    ):
        [(_, read, answered)] = _examples(either, record, inputs=400, targets=targets)
        assert answered == expected and len(read) == len(either.target_prefix) + prompt


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            *[st.text(min_size=1, max_size=60), st.text(max_size=900), st.text("ab!\n", min_size=1)]
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(24, 400),
    st.integers(40, 400),
)
def test_every_example_fits_and_has_a_loss_on_its_answer(codegen, texts, inputs, targets):
    records = [{"instruction": i, "input": c, "output": o} for i, c, o in texts]
    examples = _examples(codegen, *records, inputs=inputs, targets=targets)
    for record, (read, prompt, answered) in zip(records, examples, strict=True):
        assert len(read) <= inputs and len(prompt) + len(answered) <= targets
        assert codegen.decode(read) == codegen.decode(prompt)
        assert codegen.decode(read).endswith("### Response:")
        whole = [*codegen.encode(record["output"]), codegen.eos_id]
        assert answered == whole[: len(answered)] and answered
        assert len(answered) == len(whole) or len(answered) >= targets // 4


def test_lengths_without_room_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"Instructions need \d+ tokens for 'inputs'; .* give 5"):
        _examples(tokenizer, ADD, inputs=5, targets=99)
    with pytest.raises(ValueError, match=r"need \d+ tokens for 'targets'; .* give 12"):
        _examples(tokenizer, ADD, inputs=99, targets=12)


@pytest.mark.parametrize("side", ["inputs", "targets"])
def test_the_shortest_lengths_hold_a_token_of_the_prompt_and_one_of_the_answer(either, side):
    follow = FollowInstructions(either)

    def is_enough(length):
        try:
            follow.check_lengths({"inputs": 99, "targets": 99, side: length})
        except ValueError:
            return False
        return True

    shortest = next(filter(is_enough, range(99)))
    lengths = {"inputs": 99, "targets": 99, side: shortest}
    [(inputs, read, answered)] = _examples(either, ADD, **lengths)
    assert len({"inputs": inputs, "targets": [*read, *answered]}[side]) == shortest
    assert answered and either.decode(inputs).endswith("\n\n### Response:")
    assert not is_enough(shortest - 1)


def test_no_instructions_give_no_examples(tokenizer):
    empty = dict.fromkeys(("instruction", "input", "output"), tf.constant([], tf.string))
    block = tokenize_instructions(empty, tokenizer=tokenizer)
    made = FollowInstructions(tokenizer)(
        block, seed=tf.constant([0, 0]), sequence_length={"inputs": 99, "targets": 99}
    )
    assert made["inputs"].nrows() == made["targets"].nrows() == 0


def test_the_source_is_one_of_seqio(tmp_path):
    source = InstructionSource(_write(tmp_path / "a.json", _many(60)))
    assert isinstance(source, seqio.DataSource) and set(source.splits) == {
        *("train", "validation", "test"),
    }
    [record] = source.get_dataset("train", shuffle=False).take(1).as_numpy_iterator()
    assert record["output"].decode() == ADD["output"] and record["language"] == b""
