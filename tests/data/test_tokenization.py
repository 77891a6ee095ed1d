import itertools

import tensorflow as tf

from codet5p_jax.data.tokenization import (
    MAX_WORD_TOKENS,
    tokenize_files,
    tokenize_pairs,
    word_lengths,
)


def test_word_lengths_count_the_tokens_of_each_word():
    assert word_lengths([True, False, True]) == [2, 1]
    assert word_lengths([]) == []


def test_overlong_words_are_cut():
    starts = [True] + [False] * (2 * MAX_WORD_TOKENS + 2)
    assert word_lengths(starts) == [MAX_WORD_TOKENS, MAX_WORD_TOKENS, 3]


def test_files_become_ids_that_decode_to_them(tokenizer):
    texts = ["def f():\n\treturn 1\n", "", "é = '漢字'"]
    block = tokenize_files({"code": tf.constant(texts)}, tokenizer=tokenizer)
    tokens = block["tokens"].to_list()
    assert [tokenizer.decode(ids) for ids in tokens] == texts
    assert all(ids[-1] == tokenizer.eos_id for ids in tokens)
    assert [sum(words) for words in block["word_lengths"].to_list()] == list(map(len, tokens))


def test_words_are_those_of_the_pre_tokenizer(tokenizer):
    block = tokenize_files({"code": tf.constant(["return value"])}, tokenizer=tokenizer)
    ids, words = block["tokens"].to_list()[0], block["word_lengths"].to_list()[0]
    ends = [0, *itertools.accumulate(words)]
    texts = [tokenizer.decode(ids[a:b]) for a, b in itertools.pairwise(ends)]
    assert texts == ["return", " value", ""]


def test_pairs_are_functions_with_documentation(tokenizer):
    records = {
        "code": tf.constant(["a = 1", "b = 2", "c = 3"]),
        "docstring": tf.constant(["Sets a.", "", "Sets c."]),
        "id": tf.constant(["00", "01", "02"]),
    }
    block = tokenize_pairs(records, tokenizer=tokenizer)
    assert [tokenizer.decode(i) for i in block["text"].to_list()] == ["Sets a.", "Sets c."]
    assert [tokenizer.decode(i) for i in block["code"].to_list()] == ["a = 1", "c = 3"]
    assert block["pair_id"].dtype == tf.int32 and (block["pair_id"].numpy() >= 0).all()
    assert len(set(block["pair_id"].numpy())) == 2
