import collections

import numpy as np
import pytest
import tensorflow as tf

from codet5p_jax.data.causal_lm import PredictAll, SplitAtPivot


def _block(*sizes):
    tokens = [[*range(10, 10 + size), 2] for size in sizes]
    return {"tokens": tf.ragged.constant(tokens, tf.int32, row_splits_dtype=tf.int32)}


def _rows(function, block, seed=(1, 2), **lengths):
    made = function(block, seed=tf.constant(seed), sequence_length=lengths)
    return list(zip(made["inputs"].to_list(), made["targets"].to_list(), strict=True))


def test_prefix_and_rest_are_the_file(tokenizer):
    [(inputs, targets)] = _rows(
        SplitAtPivot(tokenizer=tokenizer), _block(20), inputs=30, targets=30
    )
    assert inputs[0] == tokenizer.clm_id and targets[0] == 1 and targets[-1] == 2
    assert [*inputs[1:], *targets[1:-1]] == list(range(10, 30))


def test_the_pivot_is_uniform_between_ten_and_ninety_percent(tokenizer):
    """Chi-squared over the 81 possible pivots of files of 100 tokens."""
    rows = _rows(SplitAtPivot(tokenizer=tokenizer), _block(*[100] * 8_100), inputs=120, targets=120)
    counts = collections.Counter(len(inputs) - 1 for inputs, _ in rows)
    assert set(counts) == set(range(10, 91))
    chi_squared = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert chi_squared < 124.8  # 80 degrees of freedom, p = 0.001


@pytest.mark.parametrize(("inputs", "targets"), [(768, 600), (64, 64), (64, 16), (3, 600)])
def test_every_pivot_fits(tokenizer, inputs, targets):
    rows = _rows(
        SplitAtPivot(tokenizer=tokenizer), _block(5000, 37), inputs=inputs, targets=targets
    )
    assert max(len(i) for i, _ in rows) <= inputs
    assert max(len(t) for _, t in rows) <= targets
    tokens = [t for i, o in rows for t in (*i[1:], *o[1:-1])]
    assert tokens == [*range(10, 5010), *range(10, 47)]


def test_the_papers_lengths_take_chunks_of_664_tokens(tokenizer):
    split = SplitAtPivot(tokenizer=tokenizer)
    assert split.chunk_length({"inputs": 768, "targets": 600}) == 664  # 598 / 0.9


def test_the_shortest_file_is_all_rest(tokenizer):
    [(inputs, targets)] = _rows(SplitAtPivot(tokenizer=tokenizer), _block(1), inputs=8, targets=8)
    assert inputs == [tokenizer.clm_id] and targets == [1, 10, 2]


def test_equal_seeds_split_alike(tokenizer):
    split = SplitAtPivot(tokenizer=tokenizer)
    first, again, other = (
        [len(i) for i, _ in _rows(split, _block(*[90] * 50), seed, inputs=120, targets=120)]
        for seed in [(1, 2), (1, 2), (1, 3)]
    )
    assert first == again != other and np.ptp(first) > 20


def test_the_decoder_predicts_whole_files_from_clm_alone(tokenizer):
    rows = _rows(PredictAll(tokenizer=tokenizer), _block(25, 3), inputs=1, targets=12)
    assert all(inputs == [tokenizer.clm_id] for inputs, _ in rows)
    assert all(targets[0] == 1 and targets[-1] == 2 for _, targets in rows)
    assert [t for _, targets in rows for t in targets[1:-1]] == [*range(10, 35), 10, 11, 12]
    assert max(len(targets) for _, targets in rows) <= 12


def test_targets_of_codegen_begin_with_the_text(codegen):
    """Its decoder's start is the one <|endoftext|> that a left-to-right LM expects before it."""
    [(inputs, targets)] = _rows(SplitAtPivot(tokenizer=codegen), _block(20), inputs=30, targets=30)
    assert inputs[0] == codegen.clm_id and targets[-1] == codegen.eos_id
    assert [*inputs[1:], *targets[:-1]] == list(range(10, 30))
    rows = _rows(PredictAll(tokenizer=codegen), _block(22), inputs=1, targets=12)
    assert rows == [
        ([codegen.clm_id], [*range(10, 21), codegen.eos_id]),
        ([codegen.clm_id], [*range(21, 32), codegen.eos_id]),
    ]
    with pytest.raises(ValueError, match="targets of 2 or more"):
        _rows(PredictAll(tokenizer=codegen), _block(9), inputs=1, targets=1)
    with pytest.raises(ValueError, match="and for 2 tokens in the targets"):
        _rows(SplitAtPivot(tokenizer=codegen), _block(9), inputs=9, targets=1)


def test_lengths_without_room_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"room for \[CLM\] and a token.*'targets': 2"):
        _rows(SplitAtPivot(tokenizer=tokenizer), _block(9), inputs=9, targets=2)
    with pytest.raises(ValueError, match="targets of 3 or more"):
        _rows(PredictAll(tokenizer=tokenizer), _block(9), inputs=1, targets=2)
