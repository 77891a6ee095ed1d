"""The peer of the data benchmark: a SeqIO task as its users write them, one example at a time.

It reads the records of our cache, joins and cuts files, masks spans with T5's algorithm, and packs
with SeqIO's own feature converter.
"""

import argparse
import pathlib

import seqio
import tensorflow as tf

from benchmarks.data import LENGTHS, MIXTURE, ROWS_PER_BATCH
from benchmarks.paired import serve
from codet5p_jax.data.vocabulary import CodeVocabulary
from codet5p_jax.tokenizer import CodeTokenizer

NOISE_DENSITY = 0.15
MEAN_SPAN_TOKENS = 4
CHUNK_TOKENS = 560
FIRST_SENTINEL = 8_099


def cut_into_chunks(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Joins all files, and cuts them into chunks of the same length."""
    tokens = dataset.map(lambda example: example["tokens"]).unbatch()
    return tokens.batch(CHUNK_TOKENS, drop_remainder=True).map(lambda t: {"tokens": t})


@seqio.map_over_dataset(num_seeds=2)
def mask_spans(example: dict, seeds: tuple) -> dict:
    """Masks spans of random lengths; T5, section 3.1.4."""
    tokens = example["tokens"]
    length = tf.size(tokens)
    num_noise = tf.cast(tf.round(tf.cast(length, tf.float32) * NOISE_DENSITY), tf.int32)
    num_spans = tf.maximum(num_noise // MEAN_SPAN_TOKENS, 1)
    noise = _random_segments(num_noise, num_spans, seeds[0])
    kept = _random_segments(length - num_noise, num_spans, seeds[1])
    lengths = tf.reshape(tf.stack([kept, noise], axis=1), [-1])
    starts = tf.math.unsorted_segment_sum(
        tf.ones([2 * num_spans], tf.int32), tf.cumsum(lengths, exclusive=True), length
    )
    masked = tf.equal((tf.cumsum(starts) - 1) % 2, 1)
    return {
        "inputs": _with_sentinels(tokens, masked),
        "targets": _with_sentinels(tokens, tf.logical_not(masked)),
    }


def _random_segments(total: tf.Tensor, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Splits `total` into `count` parts of at least one."""
    first = tf.cast(tf.range(total - 1) < count - 1, tf.int32)
    starts = tf.pad(tf.random.experimental.stateless_shuffle(first, seed), [[1, 0]])
    return tf.math.segment_sum(tf.ones([total], tf.int32), tf.cumsum(starts))


def _with_sentinels(tokens: tf.Tensor, masked: tf.Tensor) -> tf.Tensor:
    first = tf.logical_and(masked, tf.logical_not(tf.pad(masked, [[1, 0]])[:-1]))
    sentinels = FIRST_SENTINEL + 1 - tf.cumsum(tf.cast(first, tf.int32))
    replaced = tf.where(first, sentinels, tokens)
    return tf.boolean_mask(replaced, tf.logical_not(tf.logical_and(masked, tf.logical_not(first))))


def register(data_dir: pathlib.Path) -> str:
    """Registers the task over the cached files of all languages, and returns its name."""
    files = str(data_dir / "cache" / f"{MIXTURE}_*" / "train.tfrecord-*")
    vocabulary = CodeVocabulary(CodeTokenizer.from_directory(data_dir / "tokenizer"))
    feature = seqio.Feature(vocabulary, add_eos=False)
    stored = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
    seqio.TaskRegistry.add(
        "span_denoising",
        source=seqio.TFExampleDataSource({"train": files}, {"tokens": stored}),
        preprocessors=[
            seqio.map_over_dataset(lambda e: {"tokens": tf.cast(e["tokens"], tf.int32)}),
            cut_into_chunks,
            mask_spans,
        ],
        output_features={"inputs": feature, "targets": feature},
    )
    return "span_denoising"


def main() -> None:
    """Serves turns of SeqIO's packed batches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=pathlib.Path, required=True)
    parser.add_argument("--serve", action="store_true")
    dataset = seqio.get_dataset(
        register(parser.parse_args().data_dir),
        LENGTHS,
        dataset_split="train",
        num_epochs=None,
        feature_converter=seqio.EncDecFeatureConverter(pack=True),
    )
    iterator = dataset.batch(ROWS_PER_BATCH).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
    next(iterator)

    def take(count: int) -> None:
        for _ in range(count):
            next(iterator)

    serve(take, facts={"rows_per_batch": ROWS_PER_BATCH, "seqio": seqio.__version__})


if __name__ == "__main__":
    main()
