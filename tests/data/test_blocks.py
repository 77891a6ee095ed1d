import numpy as np
import seqio
import tensorflow as tf

from codet5p_jax.data.blocks import BlockMap, block_function, compose


def _double(block, *, seed, sequence_length):
    """Each row twice, the second time with its tokens negated."""
    rows = tf.concat([block["tokens"], -block["tokens"]], axis=0)
    return {"tokens": rows}


def _examples(dataset):
    return [example["tokens"].tolist() for example in dataset.as_numpy_iterator()]


def _dataset(*rows):
    ragged = tf.ragged.constant(rows, tf.int32, row_splits_dtype=tf.int32)
    dataset = tf.data.Dataset.from_tensor_slices({"tokens": ragged})
    return dataset.map(lambda e: {"tokens": tf.convert_to_tensor(e["tokens"])})


def test_a_block_map_is_a_seqio_preprocessor_of_examples():
    dataset = BlockMap(_double, block_size=2)(_dataset([1, 2], [3], [4]))
    assert _examples(dataset) == [[1, 2], [3], [-1, -2], [-3], [4], [-4]]
    assert dataset.element_spec["tokens"] == tf.TensorSpec([None], tf.int32)


def test_seqio_gives_a_block_map_its_lengths_and_seeds():
    def draw(block, *, seed, sequence_length):
        assert sequence_length == {"inputs": 5}
        words = tf.random.stateless_uniform([3], tf.stack([seed[0], seed[1]]), 0, 1000, tf.int32)
        return {"tokens": tf.RaggedTensor.from_row_lengths(words, [3])}

    preprocessor = seqio.add_kwargs_to_transform(BlockMap(draw), sequence_length={"inputs": 5})
    drawn = []
    for seed in (1, 1, 2):
        with seqio.utils.map_seed_manager(seed):
            drawn.append(_examples(preprocessor(_dataset([0]))))
    assert drawn[0] == drawn[1] != drawn[2]


def test_compose_applies_block_maps_and_preprocessors_of_seqio_in_turn():
    @seqio.map_over_dataset
    def add_length(example, sequence_length):
        return {"tokens": example["tokens"] + sequence_length["inputs"]}

    function = compose([BlockMap(_double), add_length])
    block = {"tokens": tf.ragged.constant([[1, 2], [3]], tf.int32, row_splits_dtype=tf.int32)}
    made = function(block, seed=tf.constant([0, 0]), sequence_length={"inputs": 10})
    assert made["tokens"].to_list() == [[11, 12], [13], [9, 8], [7]]


def test_each_step_of_compose_has_its_own_seed():
    seeds = []

    def note(block, *, seed, sequence_length):
        seeds.append(seed.numpy().tolist())
        return block

    compose([BlockMap(note), BlockMap(note)])({}, seed=tf.constant([5, 6]), sequence_length={})
    assert seeds == [[5, 6], [6, 6]]


def test_the_block_function_of_a_block_map_is_its_function():
    assert block_function(BlockMap(_double)) is _double


def test_seqio_and_the_block_reader_make_rows_of_the_same_kind(tokenizer):
    from codet5p_jax.data.span_denoising import SpanDenoising

    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 900, [20, 100])
    dataset = tf.data.Dataset.from_tensor_slices(
        {"tokens": tokens.astype(np.int32), "word_lengths": np.ones_like(tokens, np.int32)}
    )
    denoise = BlockMap(
        SpanDenoising(tokenizer=tokenizer), sequence_length={"inputs": 64, "targets": 32}
    )
    rows = list(denoise(dataset).as_numpy_iterator())
    assert all(row["inputs"][0] == 1 and row["inputs"][-1] == 2 for row in rows)
    assert all(row["inputs"].dtype == np.int32 and row["inputs"].size <= 64 for row in rows)
