"""Tests of codet5p_jax.tokenizer, against the tokenizers and transformers libraries."""

import ast
import itertools
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import sysconfig

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from codet5p_jax.tokenizer import (
    CodeGenTokenizer,
    CodeTokenizer,
    load_tokenizer,
    train_tokenizer,
)
from tests.codegen_folder import write_codegen_folder
from tests.standard_library import HELD_OUT, STDLIB, TEXTS

BESIDE = pathlib.Path(__file__).parents[2] / "shared" / "data" / "codet5_tokenizer"
CODET5 = pathlib.Path(os.environ.get("CODET5_TOKENIZER_DIR", BESIDE))  # the released one


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 1_000)


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(directory)
    return directory


def test_ids_have_the_layout_of_codet5p(tokenizer):
    assert [tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id] == [0, 1, 2]
    assert tokenizer.start_id == 0 and tokenizer.target_prefix == (1,)
    assert tokenizer.prompt_bounds == ((1,), (2,))
    assert tokenizer.clm_id == tokenizer.unk_id == 3 and tokenizer.mask_id == 4
    assert (tokenizer.base_size, tokenizer.vocab_size) == (1_000, 1_100)
    assert tokenizer.sentinel_id(0) == 1_099 and tokenizer.sentinel_id(99) == 1_000
    assert [tokenizer.match_id, tokenizer.tdec_id, tokenizer.cdec_id] == [1_100, 1_101, 1_102]


def test_task_tokens_extend_the_vocabulary_and_change_no_id(tokenizer):
    extended = tokenizer.with_task_tokens()
    assert extended.vocab_size == tokenizer.vocab_size + 3
    assert extended.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])
    assert extended.decode([extended.match_id], skip_special_tokens=False) == "[ENC]"


def test_encoding_equals_that_of_the_tokenizers_library(tokenizer, saved):
    reference = tokenizers.ByteLevelBPETokenizer(
        str(saved / "vocab.json"), str(saved / "merges.txt")
    )
    for text in HELD_OUT:
        assert tokenizer.encode(text) == reference.encode(text).ids


def test_training_equals_that_of_the_tokenizers_library(tokenizer):
    reference = tokenizers.ByteLevelBPETokenizer()
    reference.train_from_iterator(
        TEXTS,
        vocab_size=1_000,
        min_frequency=3,
        special_tokens=["<pad>", "<s>", "</s>", "<unk>", "<mask>"],
        show_progress=False,
    )
    for text in HELD_OUT:
        assert tokenizer.encode(text) == reference.encode(text).ids


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_decoding_inverts_encoding(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["<s>x</s>", "\n<extra_id_0>", "<pad><mask>", "[ENC]", "\0\r\n\t é漢🎉", ""]
)
def test_special_tokens_in_text_are_plain_text(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & {0, 1, 2, 3, 4} and all(i < tokenizer.base_size for i in ids)


def test_encode_batch_equals_encode(tokenizer):
    assert tokenizer.encode_batch(HELD_OUT[:3]) == [tokenizer.encode(t) for t in HELD_OUT[:3]]


def test_word_starts_split_ids_into_words(tokenizer):
    [(ids, starts)] = tokenizer.encode_with_word_starts(["def getValue_of(self):\n    return 42"])
    words, word = [], []
    for token, start in zip(ids, starts, strict=True):
        word = [token] if start else [*word, token]
        words = [*words, word] if start else [*words[:-1], word]
    assert [tokenizer.decode(word) for word in words] == [
        *("def", " getValue", "_", "of", "(", "self", "):", "\n   ", " return", " 42"),
    ]
    assert ids == tokenizer.encode("def getValue_of(self):\n    return 42")


def test_special_tokens_are_skipped_in_decoding_unless_wanted(tokenizer):
    ids = [1, *tokenizer.encode("x\n"), tokenizer.sentinel_id(7), 2, 0]
    assert tokenizer.decode(ids) == "x\n"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<s>x\n<extra_id_7></s><pad>"


def test_ids_beyond_the_vocabulary_are_left_out_of_texts(tokenizer):
    assert tokenizer.decode([*tokenizer.encode("x"), 1_100, 99_999, -1]) == "x"


@pytest.mark.parametrize("extend", [False, True])
def test_saved_tokenizer_is_read_back(tokenizer, tmp_path, extend):
    written = tokenizer.with_task_tokens() if extend else tokenizer
    written.save(tmp_path)
    read = CodeTokenizer.from_directory(tmp_path)
    assert read.fingerprint == written.fingerprint and read.vocab_size == written.vocab_size
    (tmp_path / "tokenizer.json").unlink()
    assert CodeTokenizer.from_directory(tmp_path).encode(HELD_OUT[0]) == read.encode(HELD_OUT[0])


def test_fingerprints_differ_with_the_special_tokens(tokenizer):
    assert tokenizer.fingerprint != tokenizer.with_task_tokens().fingerprint


def test_training_is_deterministic(tokenizer):
    assert train_tokenizer(TEXTS, 1_000).fingerprint == tokenizer.fingerprint


def test_saved_tokenizer_loads_in_transformers(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    extended = tokenizer.with_task_tokens()
    extended.save(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(loaded) == extended.vocab_size
    assert loaded(HELD_OUT[0])["input_ids"] == [1, *tokenizer.encode(HELD_OUT[0]), 2]
    assert loaded.convert_tokens_to_ids(["<extra_id_0>", "[CDEC]"]) == [1_099, 1_102]
    assert [loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id] == [0, 1, 2]
    newline_before_sentinel = loaded("x\n<extra_id_0>", add_special_tokens=False)["input_ids"]
    assert newline_before_sentinel == [*tokenizer.encode("x\n"), 1_099]


@pytest.mark.skipif(not CODET5.exists(), reason="the released tokenizer is not on this machine")
def test_released_tokenizer_gives_the_ids_of_transformers_on_ten_thousand_functions():
    transformers = pytest.importorskip("transformers")
    released = CodeTokenizer.from_directory(CODET5)
    assert released.vocab_size == 32_100 and released.sentinel_id(0) == 32_099
    files = (str(CODET5 / "vocab.json"), str(CODET5 / "merges.txt"))
    names = (
        ("vocab", "merges")
        if int(transformers.__version__[0]) > 4
        else ("vocab_file", "merges_file")
    )
    reference = transformers.RobertaTokenizerFast(**dict(zip(names, files, strict=True)))
    functions = list(itertools.islice(_functions_of_installed_packages(), 10_000))
    assert len(set(functions)) == 10_000
    expected = reference(functions, add_special_tokens=False)["input_ids"]
    assert released.encode_batch(functions) == expected
    enclosed = reference(functions[:100])["input_ids"]
    assert enclosed == [[1, *released.encode(text), 2] for text in functions[:100]]


def _functions_of_installed_packages():
    """Source of the functions of the standard library and the packages of tests, none twice."""
    seen = set()
    packages = pathlib.Path(sysconfig.get_paths()["purelib"])
    roots = (packages / name for name in ("numpy", "jax", "flax", "seqio", "pygments", "rich"))
    for path in sorted(itertools.chain(STDLIB.glob("*.py"), *(r.rglob("*.py") for r in roots))):
        text = path.read_text("utf-8", errors="ignore")
        lines = text.split("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno < 400:
                function = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                if function not in seen:
                    seen.add(function)
                    yield function


def test_importing_the_tokenizer_leaves_tensorflow_and_jax_out():
    code = "import sys, codet5p_jax.tokenizer; print({'tensorflow', 'jax'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_vocabulary_without_room_for_bytes_is_refused_with_the_smallest_size():
    with pytest.raises(ValueError, match=r"vocab_size is 10; .* take 261: give more"):
        train_tokenizer(["x = 1"], vocab_size=10)


def test_too_few_texts_name_the_size_they_allow():
    with pytest.raises(ValueError, match=r"261 entries .* not the 5,000 .* smaller vocab_size"):
        train_tokenizer(["x = 1"], 5_000)


def test_a_directory_without_tokenizer_says_how_to_train_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="codet5p tokenizer train"):
        CodeTokenizer.from_directory(tmp_path)


def test_a_tokenizer_of_another_layout_is_refused(tokenizer, saved, tmp_path):
    vocab = json.loads((saved / "vocab.json").read_text())
    vocab["<pad>"], vocab["<s>"] = vocab["<s>"], vocab["<pad>"]
    with pytest.raises(ValueError, match=r"Ids 0\.\.4 .* are <s> <pad>"):
        CodeTokenizer(vocab, [])
    with pytest.raises(ValueError, match="without gaps"):
        CodeTokenizer({"<pad>": 0, "<s>": 2}, [])


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("[]", "holds a list; expected an object"),
        ("{}", "has no object 'model'; expected a BPE"),
        ('{"model": "BPE"}', "has no object 'model'; expected a BPE"),
        ('{"model": {"type": "BPE"}}', "lacks vocab and merges"),
    ],
)
def test_a_tokenizer_json_without_a_tokenizer_is_an_error(tmp_path, contents, message):
    (tmp_path / "tokenizer.json").write_text(contents)
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path)


def test_damaged_files_are_named(saved, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json' is no JSON"):
        CodeTokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    with pytest.raises(ValueError, match="holds a WordPiece tokenizer; expected BPE"):
        CodeTokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text((saved / "vocab.json").read_text())
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b c\n")
    with pytest.raises(ValueError, match=r"merges\.txt:2: a merge is two entries, got 'a b c'"):
        CodeTokenizer.from_directory(tmp_path)


def test_a_disk_that_is_full_is_an_error_of_the_system(tokenizer, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            tokenizer.save(tmp_path / "saved")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_there_are_a_hundred_sentinels(tokenizer):
    with pytest.raises(ValueError, match="No sentinel 100"):
        tokenizer.sentinel_id(100)


def test_the_folder_says_whose_tokenizer_it_holds(saved, tmp_path):
    codegen_dir = write_codegen_folder(tmp_path, TEXTS)
    assert isinstance(load_tokenizer(saved), CodeTokenizer)
    with pytest.raises(ValueError, match=r'Ids 0\.\.4 of the vocabulary are ! " # \$ %'):
        CodeTokenizer.from_directory(codegen_dir)
    with pytest.raises(ValueError, match=r"CodeGen has <\|endoftext\|>; this one has not"):
        CodeGenTokenizer.from_directory(saved)
