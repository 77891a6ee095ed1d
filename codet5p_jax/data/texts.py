"""The plain texts of a corpus, for training a tokenizer."""

import pathlib
from collections.abc import Iterator

import tensorflow as tf

FIELDS = {"code_files": "code", "code_functions": "docstring"}
RECORDS_AT_ONCE = 256


def corpus_texts(corpus_dir: str | pathlib.Path, split: str = "train") -> Iterator[str]:
    """Yields the code of all files of a split, then the documentation of all functions.

    Raises:
        FileNotFoundError: If `corpus_dir` holds no corpus.
    """
    for dataset, field in FIELDS.items():
        paths = _record_files(pathlib.Path(corpus_dir), dataset, split)
        for serialized in tf.data.TFRecordDataset(paths).batch(RECORDS_AT_ONCE):
            spec = {field: tf.io.FixedLenFeature([], tf.string)}
            for text in tf.io.parse_example(serialized, spec)[field].numpy():
                if text:
                    yield text.decode("utf-8")


def _record_files(corpus_dir: pathlib.Path, dataset: str, split: str) -> list[str]:
    pattern = str(corpus_dir / dataset / "*" / f"{dataset}-{split}.tfrecord-*")
    paths = sorted(tf.io.gfile.glob(pattern))
    if not paths:
        raise FileNotFoundError(
            f"No corpus in {str(corpus_dir)!r}: nothing matches {pattern!r}. Build one with "
            "`codet5p corpus build --recipe=quickstart --out=DIR`."
        )
    return paths
