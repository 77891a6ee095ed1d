"""What the tasks make depends on the seed they are given and on nothing else."""

import pytest
import seqio
import tensorflow as tf

from codet5p_jax.data.blocks import BlockMap, compose

pytestmark = pytest.mark.usefixtures("registered")
LENGTHS = {"inputs": 64, "targets": 64, "text": 16, "code": 32}
NAMES = (
    *("unimodal_span_denoising", "unimodal_seq2seq_clm", "unimodal_decoder_clm"),
    *("bimodal_pairs", "text_to_code", "code_to_text"),
)


def _steps(task):
    steps = [step for step in task.preprocessors if isinstance(step, BlockMap)]
    assert len(steps) == len(task.preprocessors) - 1  # all but the CacheDatasetPlaceholder
    return compose(steps)


def _records(task):
    return next(iter(task.source.get_dataset("train", shuffle=False).batch(24)))


def _made(task, seed):
    block = _steps(task)(_records(task), seed=tf.constant(seed), sequence_length=LENGTHS)
    return {name: _list(values) for name, values in block.items()}


def _list(values):
    return values.to_list() if isinstance(values, tf.RaggedTensor) else values.numpy().tolist()


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_make_equal_examples_whatever_was_made_between(name):
    task = seqio.TaskRegistry.get(f"{name}_python")
    first = _made(task, (1, 2))
    other = _made(task, (3, 4))
    assert _made(task, (1, 2)) == first
    random = name in ("unimodal_span_denoising", "unimodal_seq2seq_clm")
    assert (other != first) == random


@pytest.mark.parametrize("name", NAMES)
def test_no_step_holds_a_generator(name):
    """Operations with a state are Random...; those without, Stateless...."""
    task = seqio.TaskRegistry.get(f"{name}_python")
    records = _records(task)

    @tf.function(autograph=False)
    def made(seed):
        return _steps(task)(records, seed=seed, sequence_length=LENGTHS)

    graph = made.get_concrete_function(tf.TensorSpec([2], tf.int32)).graph
    functions = [function.graph for function in graph._functions.values()]
    operations = {op.type for each in (graph, *functions) for op in each.get_operations()}
    assert not [name for name in operations if name.startswith("Random")]
    random = name in ("unimodal_span_denoising", "unimodal_seq2seq_clm")
    assert any(name.startswith("StatelessRandom") for name in operations) == random


@pytest.mark.parametrize("name", NAMES)
def test_seqio_gives_the_same_examples_for_the_same_seed(name):
    task = seqio.TaskRegistry.get(f"{name}_ruby")
    lengths = {feature: LENGTHS[feature] for feature in task.output_features if feature in LENGTHS}
    first, again = (
        [
            example[min(lengths)].tolist()
            for example in task.get_dataset(lengths, seed=5).take(20).as_numpy_iterator()
        ]
        for _ in range(2)
    )
    assert first == again
