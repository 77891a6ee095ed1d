"""Tests of codet5p_jax.tokenizer, against the tokenizers and transformers libraries."""

import ast
import itertools
import json
import os
import pathlib
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
    LanguageModelTokenizer,
    load_tokenizer,
    train_tokenizer,
)
from tests.codegen_folder import END, RUNS, write_codegen_folder

STDLIB = pathlib.Path(sysconfig.get_paths()["stdlib"])
TEXTS = [path.read_text("utf-8") for path in sorted(STDLIB.glob("[a-d]*.py"))[:30]]
HELD_OUT = [path.read_text("utf-8")[:20_000] for path in sorted(STDLIB.glob("[s-z]*.py"))[:20]]
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


def test_there_are_a_hundred_sentinels(tokenizer):
    with pytest.raises(ValueError, match="No sentinel 100"):
        tokenizer.sentinel_id(100)


@pytest.fixture(scope="module")
def codegen_dir(tmp_path_factory):
    return write_codegen_folder(tmp_path_factory.mktemp("codegen"), TEXTS)


@pytest.fixture(scope="module")
def codegen(codegen_dir):
    return load_tokenizer(codegen_dir)


def test_ids_of_codegen_stay_and_ours_follow(codegen):
    assert isinstance(codegen, CodeGenTokenizer)
    assert codegen.bos_id == codegen.eos_id == codegen.start_id == 599
    assert codegen.target_prefix == () and codegen.prompt_bounds == ((), ())
    assert codegen.base_size == 600 + len(RUNS) == 638  # 50,295 in the released one
    assert [codegen.sentinel_id(0), codegen.sentinel_id(99)] == [638, 737]
    assert [codegen.clm_id, codegen.match_id, codegen.tdec_id, codegen.cdec_id] == [
        *(738, 739, 740, 741),
    ]
    assert codegen.pad_id == 742 and codegen.vocab_size == 743  # 50,399 and 50,400
    shown = codegen.decode(range(638, 743), skip_special_tokens=False)
    assert shown.startswith("<extra_id_0><extra_id_1>")
    assert shown.endswith("<extra_id_99>[CLM][ENC][TDEC][CDEC]<pad>")


def test_padding_of_codegen_is_no_text_not_even_an_exclamation_mark(codegen):
    assert codegen.encode("!") == [0]
    assert codegen.decode([0, codegen.pad_id, 0, codegen.eos_id]) == "!!"


def test_codegen_gives_the_ids_of_its_own_file(codegen, codegen_dir):
    reference = tokenizers.Tokenizer.from_file(str(codegen_dir / "tokenizer.json"))
    for text in [*HELD_OUT, "\t\t\tx", "x" + " " * 75 + "y", "\r\n\r\n \t "]:
        assert codegen.encode(text) == reference.encode(text).ids


def test_codegen_gives_the_ids_of_transformers(codegen, codegen_dir, tmp_path):
    transformers = pytest.importorskip("transformers")
    codegen.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(codegen_dir)
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(saved) == codegen.vocab_size
    assert (saved.pad_token, saved.pad_token_id) == ("<pad>", codegen.pad_id)
    assert saved.bos_token_id == saved.eos_token_id == codegen.eos_id
    for text in HELD_OUT[:10]:
        ids = codegen.encode(text)
        assert theirs(text)["input_ids"] == saved(text)["input_ids"] == ids


def test_runs_of_whitespace_are_one_id_each_and_a_word_each(codegen):
    [(ids, starts)] = codegen.encode_with_word_starts(["f(\n        x)"])
    eight = 600 + RUNS.index(" " * 8)
    place = ids.index(eight)
    around = [*codegen.encode("\n"), eight, *codegen.encode("x")]
    assert ids[place - 1 : place + 2] == around and starts[place : place + 2] == [True, True]


_PIECES = (
    "<s>",
    "</s>",
    "<pad>",
    "<extra_id_0>",
    "[CLM]",
    END,
    "\0",
    "\r\n",
    "   ",
    "\t\t",
    "é漢🎉",
)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.one_of(st.sampled_from(_PIECES), st.text(max_size=4)), max_size=8).map("".join))
def test_decoding_inverts_encoding_of_codegen_and_no_text_is_a_special_token(codegen, text):
    ids = codegen.encode(text)
    assert codegen.decode(ids) == text
    assert codegen.eos_id not in ids and all(i < codegen.base_size for i in ids)


def test_codegen_is_saved_and_read_back(codegen, tmp_path):
    codegen.save(tmp_path)
    read = load_tokenizer(tmp_path)
    assert read.fingerprint == codegen.fingerprint and read.vocab_size == codegen.vocab_size
    assert CodeGenTokenizer.from_directory(tmp_path).encode(HELD_OUT[0]) == read.encode(HELD_OUT[0])


def test_a_folder_that_was_saved_without_padding_is_read_with_it(codegen, tmp_path):
    codegen.save(tmp_path)
    contents = json.loads((tmp_path / "tokenizer.json").read_text())
    assert contents["added_tokens"].pop()["content"] == "<pad>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(contents))
    read = load_tokenizer(tmp_path)
    assert read.pad_id == codegen.pad_id and read.fingerprint == codegen.fingerprint


def test_codegen_is_read_without_tokenizer_json_too(codegen, codegen_dir, tmp_path):
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        (tmp_path / name).write_bytes((codegen_dir / name).read_bytes())
    assert load_tokenizer(tmp_path).fingerprint == codegen.fingerprint
    (tmp_path / "added_tokens.json").unlink()
    with pytest.raises(ValueError, match=r"no added tokens for runs of whitespace: this is GPT-2"):
        load_tokenizer(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"  ": 700}))
    with pytest.raises(
        ValueError, match=r"1 added tokens have the ids \[700\].*expected 600\.\.600"
    ):
        load_tokenizer(tmp_path)


def test_the_folder_says_whose_tokenizer_it_holds(saved, codegen_dir):
    assert isinstance(load_tokenizer(saved), CodeTokenizer)
    with pytest.raises(ValueError, match=r'Ids 0\.\.4 of the vocabulary are ! " # \$ %'):
        CodeTokenizer.from_directory(codegen_dir)
    with pytest.raises(ValueError, match=r"CodeGen has <\|endoftext\|>; this one has not"):
        CodeGenTokenizer.from_directory(saved)


def test_codegen_has_a_hundred_sentinels(codegen):
    with pytest.raises(ValueError, match="No sentinel -1"):
        codegen.sentinel_id(-1)


OWN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SMOLLM = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
    ],
}


@pytest.fixture(scope="module")
def smollm_dir(tmp_path_factory):
    """A folder of the shape of SmolLM2's tokenizer: own special tokens first, digits apart."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(OWN),
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    folder = tmp_path_factory.mktemp("smollm")
    made.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def smollm(smollm_dir):
    return load_tokenizer(smollm_dir)


def test_ids_of_another_language_model_stay_and_ours_follow(smollm, smollm_dir):
    theirs = tokenizers.Tokenizer.from_file(str(smollm_dir / "tokenizer.json"))
    assert isinstance(smollm, LanguageModelTokenizer)
    assert smollm.base_size == theirs.get_vocab_size()
    assert (smollm.start_id, smollm.bos_id, smollm.eos_id) == (0, 0, 0)
    assert smollm.sentinel_id(0) == smollm.base_size
    assert smollm.clm_id == smollm.base_size + 100
    assert smollm.pad_id == smollm.base_size + 104 == smollm.vocab_size - 1
    assert smollm.special_tokens[:3] == OWN
    text = "def f(x):\n    return x + 12345\n\t\té 漢字"
    assert smollm.encode(text) == theirs.encode(text).ids
    assert smollm.decode(smollm.encode(text)) == text
    assert len(smollm.encode("12345")) == 5


@pytest.mark.parametrize("text", [*OWN, "<pad>", "<extra_id_0>", "[CLM]"])
def test_no_text_is_a_special_token_of_another_language_model(smollm, text):
    ids = smollm.encode(text)
    assert len(ids) > 1 and smollm.decode(ids) == text


def test_a_tokenizer_of_another_language_model_is_saved_and_read_back(smollm, tmp_path):
    smollm.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint == smollm.fingerprint
    assert again.encode("total 1024") == smollm.encode("total 1024")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("total 1024 ").input_ids == smollm.encode("total 1024 ")
    assert theirs.pad_token_id == smollm.pad_id and len(theirs) == smollm.vocab_size


def test_another_way_to_cut_text_is_another_fingerprint(smollm_dir, smollm, tmp_path):
    contents = json.loads((smollm_dir / "tokenizer.json").read_text())
    contents["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(contents))
    assert load_tokenizer(tmp_path).fingerprint != smollm.fingerprint


@pytest.mark.parametrize(
    ("special", "pre_tokenizer", "message"),
    [
        ({"<s>": 0}, SMOLLM, r"no special token <\|endoftext\|>"),
        ({"<|endoftext|>": 9}, SMOLLM, r"must be 0\.\.2 without gaps"),
        (
            {"<|endoftext|>": 2},
            {"type": "Metaspace"},
            "cuts text by Metaspace; expected a byte-level BPE",
        ),
    ],
)
def test_what_is_no_byte_level_bpe_of_a_language_model_is_refused(special, pre_tokenizer, message):
    with pytest.raises(ValueError, match=message):
        LanguageModelTokenizer(
            {"a": 0, "b": 1}, [], special_tokens=special, pre_tokenizer=pre_tokenizer
        )
