"""Records of a corpus as Python strings, where no training stream is made of them."""

import pathlib
from collections.abc import Iterator

VERSION = "1.0.0"  # of the datasets of a corpus


def read_records(
    dataset: str, *, corpus_dir: str | pathlib.Path, split: str
) -> Iterator[dict[str, str]]:
    """Yields the records of a split, whose features are all texts; TensorFlow is imported first.

    Args:
        dataset: Name of the TFDS dataset, code_files or code_functions.
        corpus_dir: Directory of the corpus.
        split: Of the dataset.

    Raises:
        FileNotFoundError: If the corpus has no such dataset.
    """
    directory = pathlib.Path(corpus_dir) / dataset / VERSION
    if not directory.exists():
        raise FileNotFoundError(
            f"No {dataset} in {str(corpus_dir)!r}: expected {str(directory)!r}. Build a corpus "
            "with `codet5p corpus build --recipe=quickstart --out=DIR`."
        )
    import tensorflow_datasets as tfds

    records = tfds.builder_from_directory(directory).as_dataset(split=split)
    for record in tfds.as_numpy(records):
        yield {name: text.decode("utf-8", errors="replace") for name, text in record.items()}
