"""Tests of codet5p_jax.data.span_denoising: what is masked, and that nothing is lost."""

import collections
import itertools
import pathlib
import sysconfig

import numpy as np
import pytest
import tensorflow as tf

from codet5p_jax.data.span_denoising import SpanDenoising
from codet5p_jax.data.tokenization import tokenize_files
from codet5p_jax.tokenizer import CONTROL_TOKENS

LENGTHS = {"inputs": 128, "targets": 40}


@pytest.fixture(scope="module")
def block():
    """Files whose token at position i of a word says so: 100 + i; sizes as in real code."""
    rng = np.random.default_rng(0)
    words = [rng.choice([1, 1, 1, 2, 3], size=rng.integers(50, 900)) for _ in range(400)]
    tokens = [np.concatenate([100 + np.arange(n) for n in lengths]) for lengths in words]
    return {
        "tokens": tf.ragged.constant(
            [[*t, 2] for t in tokens], tf.int32, row_splits_dtype=tf.int32
        ),
        "word_lengths": tf.ragged.constant(
            [[*w, 1] for w in words], tf.int32, row_splits_dtype=tf.int32
        ),
    }


@pytest.fixture(scope="module")
def rows(block, tokenizer):
    """About two thousand (inputs, targets)."""
    made = _apply(block, tokenizer)
    return list(zip(made["inputs"].to_list(), made["targets"].to_list(), strict=True))


def _apply(block, tokenizer, seed=(3, 4), lengths=LENGTHS, **options):
    function = SpanDenoising(tokenizer=tokenizer, **options)
    return function(block, seed=tf.constant(seed), sequence_length=lengths)


def _spans(targets, tokenizer):
    """{sentinel id: span} of `<s> sentinel span sentinel span ... </s>`."""
    spans = {}
    for token in targets[1:-1]:
        if token >= tokenizer.base_size:
            spans[token] = []
            last = token
        else:
            spans[last].append(token)
    return spans


def _reconstruct(inputs, targets, tokenizer):
    spans = _spans(targets, tokenizer)
    return [t for token in inputs[1:-1] for t in spans.get(token, [token])]


def test_inputs_and_targets_reconstruct_the_files(block, rows, tokenizer):
    joined = [t for inputs, targets in rows for t in _reconstruct(inputs, targets, tokenizer)]
    assert joined == block["tokens"].values.numpy().tolist()


def test_rows_are_enclosed_and_fit(rows):
    for inputs, targets in rows:
        assert inputs[0] == targets[0] == CONTROL_TOKENS.index("<s>")
        assert inputs[-1] == targets[-1] == CONTROL_TOKENS.index("</s>")
        assert len(inputs) <= LENGTHS["inputs"] and len(targets) <= LENGTHS["targets"]


def test_sentinels_stand_in_order_in_inputs_and_targets(rows, tokenizer):
    for inputs, targets in rows:
        expected = [tokenizer.sentinel_id(k) for k in range(len(_spans(targets, tokenizer)))]
        assert [t for t in inputs if t >= tokenizer.base_size] == expected
        assert [t for t in targets if t >= tokenizer.base_size] == expected


def test_fifteen_percent_of_the_tokens_are_masked(rows, tokenizer):
    masked = [sum(map(len, _spans(t, tokenizer).values())) for _, t in rows]
    total = [len(_reconstruct(i, t, tokenizer)) for i, t in rows]
    assert abs(sum(masked) / sum(total) - 0.15) < 0.003
    half_a_span = 5 * 3 / 2  # five words of three tokens
    assert abs(np.array(masked) - 0.15 * np.array(total)).max() <= half_a_span


def test_no_word_is_partly_masked(rows, tokenizer):
    """Tokens 101, 102, ... continue the word of the token before."""
    for inputs, targets in rows:
        spans = _spans(targets, tokenizer)
        for span in spans.values():
            assert span[0] in (100, 2)
        for token, following in itertools.pairwise(inputs):
            if token in spans:
                assert following in (100, 2), "a masked word goes on in the inputs"


def test_spans_have_one_to_five_words_each_as_likely(rows, tokenizer):
    words = collections.Counter(
        sum(token in (100, 2) for token in span)
        for _, targets in rows
        for span in _spans(targets, tokenizer).values()
    )
    total = sum(words.values())
    assert set(words) == {1, 2, 3, 4, 5}
    for count in words.values():
        assert abs(count / total - 0.2) < 0.025  # the last span of a row is chosen to fit


def _files_of_real_code(tokenizer):
    """Blocks of 64 files of the standard library, tokenized."""
    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(folder.glob("*.py")) + sorted(folder.glob("[a-k]*/*.py"))
    for start in range(0, len(paths), 64):
        code = [p.read_text("utf-8", errors="ignore") for p in paths[start : start + 64]]
        yield tokenize_files({"code": tf.constant(code)}, tokenizer=tokenizer)


def test_over_ten_thousand_examples_of_real_code_fifteen_percent_are_masked_in_whole_words(
    tokenizer,
):
    """And every span is 1..5 words; words of over 16 tokens count as several."""
    examples = tokens = masked = 0
    for number, block in enumerate(_files_of_real_code(tokenizer)):
        made = _apply(block, tokenizer, seed=(number, 9))
        ends = np.cumsum(block["word_lengths"].values.numpy())
        word_of_end = dict(zip(ends.tolist(), range(1, len(ends) + 1), strict=True)) | {0: 0}
        position = 0
        for inputs, targets in zip(*_lists(made), strict=True):
            spans = _spans(targets, tokenizer)
            for token in inputs[1:-1]:
                if token not in spans:
                    position += 1
                    continue
                first = word_of_end.get(position)
                position += len(spans[token])
                last = word_of_end.get(position)
                assert first is not None and last is not None, "a word is partly masked"
                assert 1 <= last - first <= 5
                masked += len(spans[token])
            examples += 1
        assert position == ends[-1]  # nothing is lost
        tokens += position
        if examples >= 10_000:
            break
    assert examples >= 10_000
    assert abs(masked / tokens - 0.15) < 0.003


def _one_word(size):
    """A file of one word of `size` tokens."""
    return {
        "tokens": tf.RaggedTensor.from_row_lengths(100 + tf.range(size), [size]),
        "word_lengths": tf.RaggedTensor.from_row_lengths([size], [1]),
    }


def test_a_word_is_masked_whole_or_not_at_all(tokenizer):
    word = [*range(100, 116)]
    first = tokenizer.sentinel_id(0)
    made = [_lists(_apply(_one_word(16), tokenizer, seed=(seed, 0))) for seed in range(20)]
    assert ([[1, first, 2]], [[1, first, *word, 2]]) in made
    assert ([[1, *word, 2]], [[1, 2]]) in made
    assert len({str(rows) for rows in made}) == 2


def test_without_whole_words_runs_of_tokens_are_masked_within_a_word(tokenizer):
    """Of 16 tokens 2.4 are to be masked: a run or two."""
    word = [*range(100, 116)]
    for seed in range(20):
        made = _apply(_one_word(16), tokenizer, seed=(seed, 0), whole_words=False)
        [inputs], [targets] = _lists(made)
        spans = _spans(targets, tokenizer)
        assert all(1 <= len(span) <= 5 for span in spans.values())
        assert 1 <= sum(map(len, spans.values())) <= 6  # a span more would begin above 2.4
        assert _reconstruct(inputs, targets, tokenizer) == word


def test_masking_tokens_ignores_where_words_begin(block, tokenizer):
    """Spans have 1..5 tokens, each number as likely, and begin within words as often as at one."""
    made = _apply(block, tokenizer, whole_words=False)
    spans = [s for t in made["targets"].to_list() for s in _spans(t, tokenizer).values()]
    sizes = np.bincount([len(span) for span in spans], minlength=7) / len(spans)
    assert sizes[0] == sizes[6] == 0 and abs(sizes[1:6] - 0.2).max() < 0.025
    tokens = block["tokens"].values.numpy()
    within = np.mean(~np.isin(tokens, (100, 2)))
    assert abs(np.mean([span[0] not in (100, 2) for span in spans]) - within) < 0.02
    masked = sum(map(len, spans)) / tokens.size
    assert abs(masked - 0.15) < 0.003


def test_every_position_is_masked_about_as_often(rows, tokenizer):
    hits, seen = np.zeros(10), np.zeros(10)
    for inputs, targets in rows:
        spans = _spans(targets, tokenizer)
        flags = [f for t in inputs[1:-1] for f in ([1] * len(spans[t]) if t in spans else [0])]
        places = (np.arange(len(flags)) * 10) // len(flags)
        hits += np.bincount(places, flags, minlength=10)
        seen += np.bincount(places, minlength=10)
    assert abs(hits / seen - 0.15).max() < 0.02


def test_equal_seeds_mask_alike_and_others_do_not(block, tokenizer):
    first, again = (_apply(block, tokenizer)["targets"] for _ in range(2))
    other = _apply(block, tokenizer, seed=(3, 5))["targets"]
    assert first.to_list() == again.to_list() != other.to_list()


def test_single_token_words_still_fit(tokenizer):
    """Then spans are shortest, sentinels most, and inputs longest."""
    size = 50_000
    block = {
        "tokens": tf.RaggedTensor.from_row_lengths(tf.fill([size], 100), [size]),
        "word_lengths": tf.RaggedTensor.from_row_lengths(tf.ones([size], tf.int32), [size]),
    }
    made = _apply(block, tokenizer)
    assert made["inputs"].bounding_shape()[1] <= LENGTHS["inputs"]
    assert made["targets"].bounding_shape()[1] <= LENGTHS["targets"]
    kept = sum(len(_reconstruct(i, t, tokenizer)) for i, t in zip(*_lists(made), strict=True))
    assert kept == size


def _lists(made):
    return made["inputs"].to_list(), made["targets"].to_list()


@pytest.mark.parametrize("words", [[1], [3], [16], [1, 1], [2, 1, 1]])
def test_the_shortest_files_keep_their_tokens(words, tokenizer):
    tokens = [100 + i for n in words for i in range(n)]
    block = {
        "tokens": tf.RaggedTensor.from_row_lengths(tokens, [len(tokens)]),
        "word_lengths": tf.RaggedTensor.from_row_lengths(words, [len(words)]),
    }
    [inputs], [targets] = _lists(_apply(block, tokenizer))
    assert _reconstruct(inputs, targets, tokenizer) == tokens


def test_targets_of_codegen_begin_with_the_first_sentinel(block, codegen):
    inputs, targets = _lists(_apply(block, codegen))
    end, first = codegen.eos_id, codegen.sentinel_id(0)
    assert all(row[0] == row[-1] == end for row in inputs)
    assert all(row[0] == first and row[-1] == end for row in targets)
    enclosed = zip(inputs, ([end, *row] for row in targets), strict=True)
    joined = [t for row, target in enclosed for t in _reconstruct(row, target, codegen)]
    assert joined == block["tokens"].values.numpy().tolist()


def test_no_files_give_no_rows(tokenizer):
    empty = tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int32), tf.zeros([0], tf.int32))
    made = _apply({"tokens": empty, "word_lengths": empty}, tokenizer)
    assert made["inputs"].nrows() == made["targets"].nrows() == 0


def test_chunks_fill_the_inputs(rows):
    assert np.mean([len(inputs) for inputs, _ in rows]) > 0.85 * LENGTHS["inputs"]


def test_targets_too_short_for_the_share_name_the_length_needed(tokenizer):
    denoising = SpanDenoising(tokenizer=tokenizer)
    with pytest.raises(ValueError, match="targets need 116 tokens; got 100"):
        denoising.chunk_length({"inputs": 512, "targets": 100})
    assert denoising.chunk_length({"inputs": 512, "targets": 116}) == 566


def test_targets_without_a_prefix_need_a_token_less(codegen):
    denoising = SpanDenoising(tokenizer=codegen)
    with pytest.raises(ValueError, match="targets need 115 tokens; got 114"):
        denoising.chunk_length({"inputs": 512, "targets": 114})
    assert denoising.chunk_length({"inputs": 512, "targets": 115}) == 566


def test_inputs_that_need_too_many_sentinels_are_refused(tokenizer):
    with pytest.raises(ValueError, match="there are 100"):
        SpanDenoising(tokenizer=tokenizer).chunk_length({"inputs": 4096, "targets": 2048})


def test_inputs_too_short_for_the_longest_word_name_the_length_needed(tokenizer):
    denoising = SpanDenoising(tokenizer=tokenizer)
    with pytest.raises(ValueError, match="inputs need 18 tokens; got 17"):
        denoising.check_lengths({"inputs": 17, "targets": 40})
    assert denoising.chunk_length({"inputs": 18, "targets": 40}) == 17
