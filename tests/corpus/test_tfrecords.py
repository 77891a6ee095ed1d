"""Tests of codet5p_jax.corpus.tfrecords, against TensorFlow's own reader and writer."""

import pytest

from codet5p_jax.corpus.tfrecords import (
    DamagedRecordsError,
    decode_example,
    encode_example,
    read_records,
    write_records,
)

FIELDS = {"code": "def f():\r\n\tpass\0é", "docstring": "", "id": "x" * 300, "z": "y" * 70_000}


def _write(path, records):
    write_records(path, records)
    return path


def test_examples_decode_to_their_fields():
    assert decode_example(encode_example(FIELDS)) == FIELDS
    assert decode_example(encode_example({})) == {}


def test_examples_are_those_of_tensorflow():
    import tensorflow as tf

    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        for name, value in FIELDS.items()
    }
    theirs = tf.train.Example(features=tf.train.Features(feature=features))
    assert tf.train.Example.FromString(encode_example(FIELDS)) == theirs
    assert decode_example(theirs.SerializeToString()) == FIELDS


def test_tensorflow_reads_our_records_and_we_read_its(tmp_path):
    import tensorflow as tf

    records = [b"", b"a", b"b" * 100_000]
    ours = _write(tmp_path / "ours", records)
    assert [r.numpy() for r in tf.data.TFRecordDataset(str(ours))] == records
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in records:
            writer.write(record)
    assert list(read_records(tmp_path / "theirs")) == records


@pytest.mark.parametrize("kept", [5, 12, 14, 60, 75])
def test_a_file_that_is_cut_short_is_named(tmp_path, kept):
    path = _write(tmp_path / "code.tfrecord", [b"a" * 50, b"b"])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedRecordsError, match=r"code\.tfrecord is cut short near byte"):
        list(read_records(path))


@pytest.mark.parametrize("position", [0, 9, 20, 64])
def test_a_file_that_was_altered_is_named(tmp_path, position):
    path = _write(tmp_path / "code.tfrecord", [b"a" * 50])
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedRecordsError, match=r"code\.tfrecord is (altered|cut short)"):
        list(read_records(path))


def test_no_records_make_an_empty_file(tmp_path):
    path = _write(tmp_path / "none", [])
    assert path.read_bytes() == b"" and list(read_records(path)) == []
