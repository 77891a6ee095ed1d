"""The plain texts of a corpus, for training a tokenizer."""

import collections
import pathlib
from collections.abc import Iterator, Mapping

import tensorflow as tf

FIELDS = {"code_files": "code", "code_functions": "docstring"}
RECORDS_AT_ONCE = 256


def corpus_texts(
    corpus_dir: str | pathlib.Path,
    split: str = "train",
    *,
    limits: Mapping[str, int] | None = None,
) -> Iterator[str]:
    """Yields the code of all files of a split, then the documentation of all functions.

    Args:
        corpus_dir: Directory of the corpus.
        split: Name of the split.
        limits: Dataset -> bytes of each language after which its further texts are left out; the
            records of a corpus lie in random order. None leaves nothing out.

    Raises:
        FileNotFoundError: If `corpus_dir` holds no corpus.
    """
    for dataset in FIELDS:
        taken: collections.Counter[str] = collections.Counter()
        for language, text in _texts(corpus_dir, dataset, split):
            if limits is None or taken[language] < limits[dataset]:
                taken[language] += len(text)
                yield text.decode("utf-8")


def language_bytes(
    corpus_dir: str | pathlib.Path, split: str = "train"
) -> dict[str, dict[str, int]]:
    """Returns dataset -> language -> bytes of the texts that `corpus_texts` yields.

    Raises:
        FileNotFoundError: If `corpus_dir` holds no corpus.
    """
    sizes = {}
    for dataset in FIELDS:
        counts: collections.Counter[str] = collections.Counter()
        for language, text in _texts(corpus_dir, dataset, split):
            counts[language] += len(text)
        sizes[dataset] = dict(sorted(counts.items()))
    return sizes


def _texts(corpus_dir: str | pathlib.Path, dataset: str, split: str) -> Iterator[tuple[str, bytes]]:
    """Yields (language, text) of each record that has a text."""
    field = FIELDS[dataset]
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in ("language", field)}
    paths = _record_files(pathlib.Path(corpus_dir), dataset, split)
    for serialized in tf.data.TFRecordDataset(paths).batch(RECORDS_AT_ONCE):
        records = tf.io.parse_example(serialized, spec)
        pairs = zip(records["language"].numpy(), records[field].numpy(), strict=True)
        yield from ((language.decode(), text) for language, text in pairs if text)


def _record_files(corpus_dir: pathlib.Path, dataset: str, split: str) -> list[str]:
    pattern = str(corpus_dir / dataset / "*" / f"{dataset}-{split}.tfrecord-*")
    paths = sorted(tf.io.gfile.glob(pattern))
    if not paths:
        raise FileNotFoundError(
            f"No corpus in {str(corpus_dir)!r}: nothing matches {pattern!r}. Build one with "
            "`codet5p corpus build --recipe=quickstart --out=DIR`."
        )
    return paths
