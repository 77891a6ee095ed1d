"""The corpus as a SeqIO data source: one language of one dataset."""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, final, runtime_checkable

import seqio
import tensorflow as tf

from codet5p_jax.data.blocks import Block
from codet5p_jax.data.corpus_records import VERSION
from codet5p_jax.data.damaged_files import damage_named

SPLITS = ("train", "validation", "test")


@runtime_checkable
class RecordSource(Protocol):
    """A SeqIO data source whose records lie in TFRecord files, to be read from any byte on.

    Attributes:
        language: Language of the records to keep.
    """

    language: str

    @property
    def parser(self) -> "CorpusParser":
        """What turns serialized records into a block."""

    def list_shards(self, split: str) -> Sequence[str]:
        """Returns the files of a split."""

    def num_input_examples(self, split: str) -> int | None:
        """Returns the number of records to keep."""


@final
class CorpusSource(seqio.TfdsDataSource):
    """The records of one language in a dataset of the corpus.

    Attributes:
        dataset: Name of the TFDS dataset, code_files or code_functions.
        corpus_dir: Directory of the corpus.
        language: Value of the feature `language` to keep.
    """

    def __init__(self, dataset: str, *, corpus_dir: str | pathlib.Path, language: str):
        """Reads nothing yet.

        Raises:
            FileNotFoundError: If `corpus_dir` holds no such dataset.
        """
        if not tf.io.gfile.isdir(str(pathlib.Path(corpus_dir) / dataset / VERSION)):
            raise FileNotFoundError(
                f"No dataset {dataset!r} in the corpus {str(corpus_dir)!r}. Build the corpus with "
                f"`codet5p corpus build --recipe=quickstart --out={corpus_dir}`."
            )
        super().__init__(f"{dataset}:{VERSION}", str(corpus_dir), splits=SPLITS, read_only=True)
        self.dataset = dataset
        self.corpus_dir = str(corpus_dir)
        self.language = language

    def get_dataset(self, *args: Any, **kwargs: Any) -> tf.data.Dataset:
        """Returns the records of this language as SeqIO wants them."""
        records = super().get_dataset(*args, **kwargs)
        return records.filter(lambda record: record["language"] == self.language)

    def num_input_examples(self, split: str) -> int:
        """Returns the number of records of this language; the first call reads the split once.

        Raises:
            ValueError: If a record file is damaged.
        """
        counts = _count_languages(tuple(self.list_shards(split)))
        return counts.get(self.language, 0)

    @property
    def parser(self) -> "CorpusParser":
        """What turns serialized records into a block."""
        return CorpusParser(tuple(sorted(self.tfds_dataset.info.features)))


@dataclasses.dataclass(frozen=True)
class CorpusParser:
    """Serialized records of a corpus -> a block of the texts in one language.

    Attributes:
        features: Names of the features of a record, all of them text.
    """

    features: tuple[str, ...]

    def __call__(self, serialized: tf.Tensor, *, language: tf.Tensor | str) -> Block:
        """Returns a block of strings; records of other languages are left out."""
        texts = tf.io.parse_example(serialized, _text_features(self.features))
        kept = texts["language"] == language
        return {name: tf.boolean_mask(text, kept) for name, text in texts.items()}


@functools.lru_cache(maxsize=64)
def _count_languages(paths: tuple[str, ...]) -> Mapping[str, int]:
    counts: collections.Counter[str] = collections.Counter()
    for path in paths:
        with damage_named(path):
            counts.update(_languages(path))
    return counts


def _languages(path: str) -> Iterator[str]:
    for serialized in tf.data.TFRecordDataset(path).batch(1024):
        parsed = tf.io.parse_example(serialized, _text_features(["language"]))
        yield from (name.decode() for name in parsed["language"].numpy())


def _text_features(names: Sequence[str]) -> dict[str, tf.io.FixedLenFeature]:
    return {name: tf.io.FixedLenFeature([], tf.string) for name in names}
