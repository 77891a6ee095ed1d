"""What our package exports, in this version of transformers, against what our own models answer."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.huggingface.reference_exports import MAX_LENGTH, NAMES, TEXTS

pytestmark = pytest.mark.slow  # `make test-hf` runs them, in two environments

ROOT = pathlib.Path(__file__).parents[2]
GENERATING = [name for name in NAMES if name != "embedding"]
# T5's logits reach 100 where the head is not scaled; float32 on both sides.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """The folder of `reference_exports`: given, or made here where our package is installed."""
    given = os.environ.get("CODET5P_EXPORTS")
    if given:
        return pathlib.Path(given)
    if importlib.util.find_spec("codet5p_jax") is None:
        pytest.skip("codet5p_jax is not installed here; `make test-hf` hands its exports over")
    folder = tmp_path_factory.mktemp("exports")
    words = [sys.executable, "-m", "tests.huggingface.reference_exports", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def loaded(transformers, exports):
    """Returns (model, tokenizer, what our model answers) of an export."""

    def load(name, auto="AutoModel"):
        folder = exports / name / "export"
        if name.startswith("t5"):
            model, info = transformers.AutoModelForSeq2SeqLM.from_pretrained(
                folder, output_loading_info=True
            )
        else:
            model, info = getattr(transformers, auto).from_pretrained(
                folder, output_loading_info=True, trust_remote_code=True
            )
        assert not any(info.values()), info
        expected = dict(np.load(exports / name / "expected.npz"))
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        return model.float().eval(), tokenizer, expected

    return load


def inputs_of(torch, expected, name="inputs"):
    ids = torch.tensor(expected[name]).long()
    return {"input_ids": ids, "attention_mask": (ids != int(expected["pad_id"])).long()}


@pytest.mark.parametrize("name", NAMES)
def test_the_tokenizer_gives_the_ids_of_ours(loaded, name):
    _, tokenizer, expected = loaded(name)
    for text, row, length in zip(TEXTS, expected["inputs"], expected["lengths"], strict=True):
        assert tokenizer(text).input_ids == row[:length].tolist()
        before, behind = expected["around"]
        assert tokenizer.decode(row[before : length - behind]) == text
    batch = tokenizer(list(TEXTS), padding=True)
    assert batch.input_ids == expected["inputs"].tolist()


@pytest.mark.parametrize("name", GENERATING)
def test_logits_are_those_of_our_model(torch, loaded, name):
    model, _, expected = loaded(name)
    targets = torch.tensor(expected["targets"]).long()
    with torch.no_grad():
        logits = model(**inputs_of(torch, expected), decoder_input_ids=targets).logits.numpy()
    for row, theirs, length in zip(logits, expected["logits"], expected["lengths"], strict=True):
        np.testing.assert_allclose(row[:length], theirs[:length], **TOLERANCE)


@pytest.mark.parametrize("use_cache", [None, False], ids=["as exported", "not cached"])
@pytest.mark.parametrize("name", GENERATING)
def test_greedy_generations_are_those_of_our_model(torch, loaded, name, use_cache):
    model, _, expected = loaded(name)
    flags = {} if use_cache is None else {"use_cache": use_cache}
    generated = model.generate(
        **inputs_of(torch, expected), max_new_tokens=MAX_LENGTH, do_sample=False, **flags
    )
    for row, theirs in zip(generated[:, 1:].tolist(), expected["generated"], strict=True):
        length = int(np.sum(theirs >= 0))
        assert row[:length] == theirs[:length].tolist()


@pytest.mark.parametrize("use_cache", [None, False], ids=["as exported", "not cached"])
@pytest.mark.parametrize("name", GENERATING)
def test_prompts_in_the_decoder_are_continued_as_by_our_model(torch, loaded, name, use_cache):
    model, _, expected = loaded(name)
    flags = {} if use_cache is None else {"use_cache": use_cache}
    prompt = [int(expected["start_id"]), *expected["prompt"].tolist()]
    generated = model.generate(
        **inputs_of(torch, expected),
        decoder_input_ids=torch.tensor([prompt] * len(TEXTS)),
        max_new_tokens=MAX_LENGTH,
        do_sample=False,
        **flags,
    )
    for row, theirs in zip(generated[:, 1:].tolist(), expected["prompted"], strict=True):
        length = int(np.sum(theirs >= 0))
        assert length > len(prompt) - 1
        assert row[:length] == theirs[:length].tolist()


@pytest.mark.parametrize("strategy", [{"num_beams": 3}, {"do_sample": True, "top_p": 0.9}], ids=str)
@pytest.mark.parametrize("name", GENERATING)
def test_beams_and_samples_run_with_the_cache_as_exported(torch, loaded, name, strategy):
    model, tokenizer, expected = loaded(name)
    torch.manual_seed(0)
    generated = model.generate(**inputs_of(torch, expected), max_new_tokens=MAX_LENGTH, **strategy)
    assert generated.shape[0] == len(TEXTS) and generated.shape[1] > 1
    assert len(tokenizer.batch_decode(generated)) == len(TEXTS)


@pytest.mark.parametrize("name", ["embedding", "bimodal"])
def test_embeddings_are_those_of_our_model(torch, loaded, name):
    model, _, expected = loaded(name)
    embed = model.embed if name == "bimodal" else model
    with torch.no_grad():
        embeddings = embed(**inputs_of(torch, expected)).numpy()
    np.testing.assert_allclose(embeddings, expected["embeddings"], atol=1e-5)  # of norm 1


def test_matching_scores_are_those_of_our_model(torch, loaded):
    model, _, expected = loaded("bimodal")
    text = inputs_of(torch, expected)
    code = {name: torch.roll(tensor, -1, dims=0) for name, tensor in text.items()}
    with torch.no_grad():
        scores = model.match(
            **text, code_ids=code["input_ids"], code_attention_mask=code["attention_mask"]
        ).numpy()
    np.testing.assert_allclose(scores, expected["matching"], **TOLERANCE)


def test_the_bimodal_export_loads_as_a_sequence_to_sequence_model_too(loaded):
    model, _, _ = loaded("bimodal", auto="AutoModelForSeq2SeqLM")
    assert type(model).__name__ == "CodeT5pBimodalModel"
