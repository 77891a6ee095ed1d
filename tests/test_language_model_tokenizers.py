"""Tests of codet5p_jax.language_model_tokenizers, against tokenizers and transformers."""

import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from codet5p_jax.language_model_tokenizers import CodeGenTokenizer, LanguageModelTokenizer
from codet5p_jax.tokenizer import load_tokenizer
from tests.codegen_folder import END, RUNS, write_codegen_folder
from tests.standard_library import HELD_OUT, TEXTS


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
    missing = rf"in {tmp_path}: There are no added tokens for runs of whitespace: this is GPT-2"
    with pytest.raises(ValueError, match=missing):
        load_tokenizer(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"  ": 700}))
    with pytest.raises(
        ValueError, match=r"1 added tokens have the ids \[700\].*expected 600\.\.600"
    ):
        load_tokenizer(tmp_path)


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
