"""Tests of codet5p_jax.corpus.datasets: the files that TFDS reads."""

import json
import shutil

import pytest

from codet5p_jax.corpus.datasets import (
    FEATURES,
    ShardInfo,
    fingerprint,
    read_dataset,
    verify,
    write_metadata,
)
from codet5p_jax.corpus.records import SPLITS
from codet5p_jax.corpus.tfrecords import DamagedRecordsError

METADATA = ("features.json", "dataset_info.json")
# TFDS writes its own protocol buffers with a name that they deprecate
pytestmark = pytest.mark.filterwarnings("ignore:label\\(\\) is deprecated:DeprecationWarning")


def _shard(**kwargs):
    fields = dict(dataset="code_files", split="train", index=0, records=1, bytes=9, digest="0")
    return ShardInfo(**{**fields, **kwargs})


def test_tfds_reads_the_datasets_by_name_and_by_folder(corpus):
    import tensorflow_datasets as tfds

    for dataset, names in FEATURES.items():
        by_name = tfds.load(dataset, data_dir=str(corpus), split="train")
        builder = tfds.builder_from_directory(str(corpus / dataset / "1.0.0"))
        assert set(builder.info.features) == set(names)
        assert list(builder.info.splits) == list(SPLITS)
        ours = {record["code"] for record in read_dataset(corpus, dataset, split="train")}
        theirs = {record["code"].numpy().decode() for record in by_name}
        assert theirs == ours and len(ours) == builder.info.splits["train"].num_examples


def test_metadata_is_what_tfds_itself_would_write(corpus, tmp_path):
    import tensorflow_datasets as tfds

    shutil.copytree(corpus, tmp_path / "copy")
    for dataset, names in FEATURES.items():
        folder = tmp_path / "copy" / dataset / "1.0.0"
        info = tfds.builder_from_directory(str(folder)).info
        ours = {name: (folder / name).read_text() for name in METADATA}
        tfds.folder_dataset.write_metadata(
            data_dir=str(folder),
            features={name: tfds.features.Text() for name in names},
            split_infos=list(info.splits.values()),
            description=info.description,
        )
        for name in METADATA:
            assert json.loads(ours[name]) == json.loads((folder / name).read_text())


def test_fingerprint_depends_on_the_records_alone():
    shards = [_shard(index=i, digest=str(i)) for i in range(3)]
    assert fingerprint(shards) == fingerprint(shards[::-1])
    assert fingerprint(shards) == fingerprint(
        [_shard(index=i, digest=str(i), bytes=1) for i in range(3)]
    )
    assert fingerprint(shards) != fingerprint([*shards[:2], _shard(index=2, digest="9")])


def test_verify_reads_every_record(corpus):
    counted = sum(
        1 for dataset in FEATURES for s in SPLITS for _ in read_dataset(corpus, dataset, split=s)
    )
    assert verify(corpus) == counted > 0


def test_a_record_file_that_is_cut_short_is_named(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "copy")
    path = max(tmp_path.rglob("*.tfrecord-*"), key=lambda p: p.stat().st_size)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DamagedRecordsError, match=path.name):
        verify(tmp_path / "copy")
    dataset, _, rest = path.name.partition("-")
    with pytest.raises(DamagedRecordsError, match=path.name):
        list(read_dataset(tmp_path / "copy", dataset, split=rest.partition(".")[0]))


def test_a_record_file_with_fewer_records_than_were_written_is_named(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "copy")
    path = max(tmp_path.rglob("*.tfrecord-*"), key=lambda p: p.stat().st_size)
    path.write_bytes(b"")
    with pytest.raises(DamagedRecordsError, match=rf"{path.name} holds 0 records"):
        verify(tmp_path / "copy")


def test_a_corpus_that_is_not_there_says_how_to_build_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="codet5p corpus build"):
        list(read_dataset(tmp_path, "code_files", split="train"))
    with pytest.raises(FileNotFoundError, match="codet5p corpus build"):
        verify(tmp_path)


def test_shards_are_listed_in_order(tmp_path):
    for dataset in FEATURES:
        (tmp_path / dataset / "1.0.0").mkdir(parents=True)
    shards = [_shard(index=i, records=i, dataset=d) for d in FEATURES for i in (2, 0, 1)]
    write_metadata(tmp_path, shards)
    info = json.loads((tmp_path / "code_files/1.0.0/dataset_info.json").read_text())
    assert info["splits"][0]["shardLengths"] == ["0", "1", "2"]
