"""The two TFDS datasets of a corpus: where their files lie, writing, reading, checking.

CORPUS_DIR/code_files/1.0.0/code_files-train.tfrecord-00000-of-00008
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from codet5p_jax.corpus.records import FILE_FEATURES, FUNCTION_FEATURES, SPLITS
from codet5p_jax.corpus.tfrecords import (
    DamagedRecordsError,
    decode_example,
    read_records,
    unframed,
)

VERSION = "1.0.0"
_TO_BUILD = "Build one with `codet5p corpus build --recipe=quickstart --out=DIR`."
FEATURES: Mapping[str, tuple[str, ...]] = {
    "code_files": FILE_FEATURES,
    "code_functions": FUNCTION_FEATURES,
}
_DESCRIPTIONS = {
    "code_files": "Source files of open-source packages, for unimodal pretraining.",
    "code_functions": "Functions and methods, with their documentation where they have one.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """One written file of records.

    Attributes:
        dataset: A key of `FEATURES`.
        split: One of `SPLITS`.
        index: Number of the shard in its split.
        records: Records in it.
        bytes: Size of the file.
        digest: SHA-256 of the records.
    """

    dataset: str
    split: str
    index: int
    records: int
    bytes: int
    digest: str


def shard_path(
    corpus_dir: str | os.PathLike[str], dataset: str, *, split: str, index: int, num_shards: int
) -> epath.Path:
    """Returns the path of a file of records, as TFDS names it."""
    name = f"{dataset}-{split}.tfrecord-{index:05}-of-{num_shards:05}"
    return epath.Path(corpus_dir, dataset, VERSION, name)


def count_files(corpus_dir: str | os.PathLike[str]) -> int:
    """Returns how many files of records a corpus has, or a build has written so far."""
    return sum(1 for _ in epath.Path(corpus_dir).glob(f"*/{VERSION}/*.tfrecord-*"))


def write_shard(
    path: str | os.PathLike[str],
    frames: Sequence[bytes],
    *,
    dataset: str,
    split: str,
    index: int,
) -> ShardInfo:
    """Writes framed records (`tfrecords.framed`) to a file; its folder is made."""
    place = epath.Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as stream:
        stream.writelines(frames)
    records = (hashlib.sha256(unframed(frame)).digest() for frame in frames)
    digest = hashlib.sha256(b"".join(records))
    return ShardInfo(
        dataset=dataset,
        split=split,
        index=index,
        records=len(frames),
        bytes=sum(map(len, frames)),
        digest=digest.hexdigest(),
    )


def fingerprint(shards: Sequence[ShardInfo]) -> str:
    """Returns 16 hex digits that depend on the records of a corpus and on nothing else."""
    lines = sorted(f"{s.dataset} {s.split} {s.index} {s.digest}" for s in shards)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def write_metadata(corpus_dir: str | os.PathLike[str], shards: Sequence[ShardInfo]) -> None:
    """Writes what TFDS needs to read the datasets without their code.

    These are the files of `tfds.folder_dataset.write_metadata`, written without TensorFlow: its
    import takes longer than they do. A test loads them with TFDS.
    """
    for dataset, names in FEATURES.items():
        own = [shard for shard in shards if shard.dataset == dataset]
        folder = epath.Path(corpus_dir, dataset, VERSION)
        _write_json(folder / "features.json", _features(names))
        _write_json(
            folder / "dataset_info.json",
            {
                "description": _DESCRIPTIONS[dataset],
                "fileFormat": "tfrecord",
                "name": dataset,
                "splits": [_split_info(own, split) for split in SPLITS],
                "version": VERSION,
            },
        )


def _features(names: Sequence[str]) -> dict[str, Any]:
    core = "tensorflow_datasets.core.features"
    text = {"pythonClassName": f"{core}.text_feature.Text", "text": {}}
    return {
        "featuresDict": {"features": {name: text for name in names}},
        "pythonClassName": f"{core}.features_dict.FeaturesDict",
    }


def _split_info(shards: Sequence[ShardInfo], split: str) -> dict[str, Any]:
    own = sorted((s for s in shards if s.split == split), key=lambda shard: shard.index)
    return {
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "name": split,
        "numBytes": str(sum(shard.bytes for shard in own)),
        "shardLengths": [str(shard.records) for shard in own],
    }


def _write_json(path: epath.Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_dataset(
    corpus_dir: str | os.PathLike[str], dataset: str, *, split: str
) -> Iterator[dict[str, str]]:
    """Yields the records of a split by field name, shard after shard, without TensorFlow.

    Raises:
        FileNotFoundError: The corpus has no such dataset.
        DamagedRecordsError: A file is cut short or altered; the message names it.
    """
    for path in record_paths(corpus_dir, dataset, split=split):
        yield from map(decode_example, read_records(path))


def record_paths(
    corpus_dir: str | os.PathLike[str], dataset: str, *, split: str
) -> list[epath.Path]:
    """Returns the files of records of a split, in the order of their numbers.

    Raises:
        FileNotFoundError: The corpus has no such dataset.
    """
    folder = epath.Path(corpus_dir, dataset, VERSION)
    paths = sorted(folder.glob(f"{dataset}-{split}.tfrecord-*"))
    if not paths:
        raise FileNotFoundError(f"No split {split!r} of {dataset} in {corpus_dir}. {_TO_BUILD}")
    return paths


def verify(corpus_dir: str | os.PathLike[str]) -> int:
    """Reads every record of a corpus and returns how many there are.

    Raises:
        FileNotFoundError: There is no corpus, or one of its files is missing.
        DamagedRecordsError: A file is cut short or altered; the message names it.
    """
    path = epath.Path(corpus_dir, "manifest.json")
    if not path.is_file():
        raise FileNotFoundError(f"No corpus in {corpus_dir}: {path.name} is missing. {_TO_BUILD}")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    total = 0
    for entry in manifest["files"]:
        path = epath.Path(corpus_dir, entry["path"])
        records = sum(1 for _ in read_records(path))
        if records != entry["records"]:
            raise DamagedRecordsError(
                f"The record file {path} holds {records} records; the manifest says "
                f"{entry['records']}. Remove the corpus and build it again."
            )
        total += records
    return total
