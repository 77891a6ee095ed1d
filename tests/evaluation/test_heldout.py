"""Tests of codet5p_jax.evaluation.heldout."""

import hashlib
import random

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from codet5p_jax.evaluation.heldout import read_pairs, select_pairs


def test_pairs_come_in_the_order_of_their_hash_whatever_order_they_are_stored_in(make_pair):
    pairs = [make_pair(k) for k in range(40)]
    shuffled = random.Random(0).sample(pairs, len(pairs))
    chosen = select_pairs(pairs, limit=7, seed=3)
    assert chosen == select_pairs(shuffled, limit=7, seed=3)
    expected = sorted(pairs, key=lambda p: hashlib.sha256(f"3:{p.id}".encode()).hexdigest())
    assert list(chosen.pairs) == expected[:7]
    assert chosen.available == 40 and chosen.duplicates == 0


def test_another_seed_gives_another_order(make_pair):
    pairs = [make_pair(k) for k in range(40)]
    assert select_pairs(pairs, limit=5, seed=0) != select_pairs(pairs, limit=5, seed=1)


def test_the_same_code_is_taken_once_and_the_rest_counted(make_pair):
    pairs = [make_pair(1, source="a"), make_pair(1, source="b"), make_pair(2)]
    chosen = select_pairs(pairs, limit=9)
    assert sorted(pair.source for pair in chosen.pairs) == ["a", "package/file2.py"]
    assert (chosen.available, chosen.duplicates) == (3, 1)


def test_texts_that_several_pairs_share_are_counted(make_pair):
    pairs = [make_pair(k, text="Same." if k < 3 else f"Text {k}.") for k in range(6)]
    assert select_pairs(pairs, limit=9).repeated_texts == 3


def _write_functions(directory, docstrings):
    names = ("code", "docstring", "name", "language", "license", "repository", "path", "id")
    features = tfds.features.FeaturesDict({name: tfds.features.Text() for name in names})
    folder = directory / "code_functions" / "1.0.0"
    folder.mkdir(parents=True)
    path = folder / "code_functions-test.tfrecord-00000-of-00001"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, docstring in enumerate(docstrings):
            record = {name: f"{name} {number}" for name in names} | {"docstring": docstring}
            writer.write(features.serialize_example(record))
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=features,
        split_infos=[
            tfds.core.SplitInfo(
                name="test",
                shard_lengths=[len(docstrings)],
                num_bytes=0,
                filename_template=tfds.core.ShardedFileTemplate(
                    data_dir=folder,
                    dataset_name="code_functions",
                    split="test",
                    filetype_suffix="tfrecord",
                    template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                ),
            )
        ],
    )


def test_functions_without_documentation_are_no_pairs(tmp_path):
    _write_functions(tmp_path, ["Does it.", "", "  \n", "größer"])
    found = read_pairs(tmp_path, limit=9)
    assert sorted(pair.text for pair in found.pairs) == ["Does it.", "größer"]
    [first] = [pair for pair in found.pairs if pair.text == "Does it."]
    assert (first.code, first.source, first.id) == ("code 0", "repository 0/path 0", "id 0")


def test_a_split_without_documentation_is_an_error(tmp_path):
    _write_functions(tmp_path, ["", ""])
    with pytest.raises(ValueError, match="holds no function with documentation"):
        read_pairs(tmp_path, limit=9)


def test_a_corpus_without_functions_is_an_error_that_says_how_to_build_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No code_functions in .*codet5p corpus build"):
        read_pairs(tmp_path, limit=9)
