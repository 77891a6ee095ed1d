import shutil

import pytest

from codet5p_jax.data.sources import CorpusSource


def test_a_source_holds_the_records_of_its_language(corpus_dir):
    for language in ("python", "ruby"):
        source = CorpusSource("code_files", corpus_dir=corpus_dir, language=language)
        records = list(source.get_dataset("train", shuffle=False).as_numpy_iterator())
        assert {record["language"].decode() for record in records} == {language}
        assert source.num_input_examples("train") == len(records) > 0


def test_the_parser_gives_the_same_texts(corpus_dir):
    import tensorflow as tf

    source = CorpusSource("code_files", corpus_dir=corpus_dir, language="ruby")
    records = source.get_dataset("test", shuffle=False).as_numpy_iterator()
    serialized = list(tf.data.TFRecordDataset(list(source.list_shards("test"))))
    block = source.parser(tf.stack(serialized), language="ruby")
    assert block["code"].numpy().tolist() == [record["code"] for record in records]


def test_a_language_that_the_corpus_lacks_has_no_records(corpus_dir):
    source = CorpusSource("code_files", corpus_dir=corpus_dir, language="go")
    assert source.num_input_examples("train") == 0


def test_a_directory_without_corpus_says_how_to_build_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No dataset 'code_files'.*codet5p corpus build"):
        CorpusSource("code_files", corpus_dir=tmp_path, language="go")


def test_a_truncated_record_file_is_named_when_its_languages_are_counted(corpus_dir, tmp_path):
    shutil.copytree(corpus_dir, tmp_path / "corpus")
    files = (tmp_path / "corpus" / "code_files").rglob("code_files-train.tfrecord-*")
    longest = max(files, key=lambda path: path.stat().st_size)
    longest.write_bytes(longest.read_bytes()[:-9])
    source = CorpusSource("code_files", corpus_dir=tmp_path / "corpus", language="python")
    with pytest.raises(ValueError, match=rf"{longest.name}' is damaged.*truncated record"):
        source.num_input_examples("train")
