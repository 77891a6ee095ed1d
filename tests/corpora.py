"""A tiny corpus for tests, made of the Python standard library's own source, and its fixtures."""

import ast
import hashlib
import json
import os
import pathlib
import sysconfig

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

import tasks
from codet5p_jax.data.offline_cache import OfflineCache
from codet5p_jax.tokenizer import CodeTokenizer, load_tokenizer, train_tokenizer
from tests.codegen_folder import write_codegen_folder

FILE_FEATURES = ("code", "language", "license", "repository", "path")
FUNCTION_FEATURES = (*FILE_FEATURES, "docstring", "name", "id")
LANGUAGES = ("python", "ruby")  # every other three modules claim to be ruby


def write_corpus(directory, *, num_files=40):
    """Writes code_files and code_functions below `directory`; returns it."""
    files, functions = [], []
    for index, path in enumerate(_modules()[:num_files]):
        code = path.read_text(encoding="utf-8")[:6_000]
        common = {
            "language": LANGUAGES[index // 3 % len(LANGUAGES)],
            "license": "PSF-2.0",
            "repository": f"cpython/{index % 7}",
            "path": path.name,
        }
        files.append({"code": code, **common})
        functions += [{**function, **common} for function in _functions(path)]
    _write(directory, "code_files", files, FILE_FEATURES)
    _write(directory, "code_functions", functions, FUNCTION_FEATURES)
    return directory


def _modules():
    return sorted(pathlib.Path(sysconfig.get_paths()["stdlib"]).glob("[a-f]*.py"))


def _functions(path, most=8):
    functions = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if _is_function(n)]
    for node in functions[:most]:
        code = ast.unparse(node)
        yield {
            "code": code,
            "docstring": (ast.get_docstring(node) or "").split("\n\n")[0],
            "name": node.name,
            "id": hashlib.sha256(code.encode()).hexdigest()[:16],
        }


def _is_function(node):
    return isinstance(node, ast.FunctionDef)


def _write(directory, name, records, features):
    held_out = len(records) // 4
    parts = {"train": records[:-held_out], "validation": records[-held_out:], "test": records[:9]}
    text = tfds.features.FeaturesDict({feature: tfds.features.Text() for feature in features})
    folder = pathlib.Path(directory) / name / "1.0.0"
    folder.mkdir(parents=True)
    for split, part in parts.items():
        path = folder / f"{name}-{split}.tfrecord-00000-of-00001"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in part:
                writer.write(text.serialize_example(record))
    splits = [_split_info(folder, name, split, len(part)) for split, part in parts.items()]
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=text, split_infos=splits, check_data=False
    )


def _split_info(folder, name, split, count):
    return tfds.core.SplitInfo(
        name=split,
        shard_lengths=[count],
        num_bytes=0,
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=name, filetype_suffix="tfrecord", split=split
        ),
    )


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def finished_corpus_dir(tmp_path_factory):
    """A corpus with a manifest, as `codet5p corpus build` leaves it."""
    directory = write_corpus(tmp_path_factory.mktemp("finished_corpus"))
    (directory / "manifest.json").write_text(json.dumps({"fingerprint": "a toy"}))
    return directory


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer([path.read_text("utf-8") for path in _modules()[:20]], 1_000)


@pytest.fixture(scope="session")
def tokenizer_dir(tokenizer, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(directory)
    return directory


@pytest.fixture(scope="session")
def codegen_dir(tmp_path_factory):
    """A folder like that of CodeGen's tokenizer."""
    texts = [path.read_text("utf-8") for path in _modules()[:20]]
    return write_codegen_folder(tmp_path_factory.mktemp("codegen"), texts, vocab_size=900)


@pytest.fixture(scope="session")
def codegen(codegen_dir):
    return load_tokenizer(codegen_dir)


@pytest.fixture
def registry():
    """SeqIO's registries, empty before the test and after it."""
    _reset_registry()
    yield
    _reset_registry()


def _reset_registry():
    seqio.TaskRegistry.reset()
    seqio.MixtureRegistry.reset()
    seqio.set_global_cache_dirs([])


@pytest.fixture(scope="session")
def cache_dir(corpus_dir, tokenizer_dir, tmp_path_factory):
    """The cache of all tasks, in 8 files per split."""
    directory = tmp_path_factory.mktemp("cache")
    _reset_registry()
    tasks.register(corpus_dir, tokenizer_dir, languages=LANGUAGES)
    origin = tasks.origin(corpus_dir, CodeTokenizer.from_directory(tokenizer_dir))
    cache = OfflineCache(directory, num_files=8, origin=origin)
    for name in seqio.TaskRegistry.names():
        cache.write(seqio.TaskRegistry.get(name))
    _reset_registry()
    return directory


@pytest.fixture
def registered(registry, corpus_dir, tokenizer_dir, cache_dir):
    """All tasks of the tiny corpus in two languages, cached."""
    tasks.register(corpus_dir, tokenizer_dir, languages=LANGUAGES, cache_dir=cache_dir)
