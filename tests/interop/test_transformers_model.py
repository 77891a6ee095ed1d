"""Our decoding and our exports against transformers, on tiny random models."""

import dataclasses
import sys
from functools import partial

import jax
import numpy as np
import pytest

from codet5p_jax.decoding.generate import generate
from codet5p_jax.interop.folders import read_tensors, write_tensors
from codet5p_jax.interop.huggingface import export_model
from codet5p_jax.interop.transformers_model import TransformersModel
from codet5p_jax.models.codet5p import CodeT5p

INPUTS = np.array(
    [[1, 40, 41, 42, 43, 2], [1, 50, 2, 0, 0, 0], [1, 60, 61, 2, 0, 0], [3, 0, 0, 0, 0, 0]],
    np.int32,
)
LENGTH = 12


# One function for all tests, so that equal configs and shapes are compiled once.
_logits = jax.jit(
    lambda model, params, *tokens: model.apply({"params": params}, *tokens), static_argnums=0
)


@dataclasses.dataclass
class OurModel:
    params: dict
    config: object

    def logits(self, encoder_input_tokens, decoder_input_tokens):
        logits = _logits(
            CodeT5p(self.config), self.params, encoder_input_tokens, decoder_input_tokens
        )
        return np.asarray(logits)[..., : self.config.vocab_size]

    def greedy(self, encoder_input_tokens, *, max_length, prompt=()):
        prompts = np.array([prompt] * len(encoder_input_tokens), np.int32)
        got = generate(
            CodeT5p(self.config),
            self.params,
            encoder_input_tokens,
            max_length=max_length,
            prompt=prompts if prompt else None,
        )
        rows = zip(got.tokens.tolist(), got.lengths.tolist(), strict=True)
        return [tokens[:length] for tokens, length in rows]


@pytest.fixture
def pair(tmp_path, random_params, tokenizer):
    """Returns our model and its export, of one config."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")

    def make(config, *, seed=0):
        params = random_params(config, seed=seed)
        export_model(params, config, tokenizer=tokenizer, out_dir=tmp_path / "out")
        return OurModel(params, config), TransformersModel(tmp_path / "out")

    return make


@pytest.mark.parametrize("name", ["embedding", "bimodal"])
def test_an_export_with_code_is_loaded_without_a_question(
    tmp_path, config, random_params, tokenizer, monkeypatch, name
):
    """transformers asks on the terminal where it is not told to trust, of the tokenizer too."""
    pytest.importorskip("transformers")
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "n")
    out = tmp_path / "out"
    export_model(random_params(config), config, tokenizer=tokenizer, out_dir=out, format=name)
    TransformersModel(out)
    assert not asked


def test_loading_shows_no_progress_bar_and_leaves_those_of_others(pair, config, capfd):
    logging = pytest.importorskip("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    try:
        logging.enable_progress_bar()
        pair(config)
        assert logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        pair(config)
        assert not logging.is_progress_bar_enabled()
    finally:
        if shown:
            logging.enable_progress_bar()
    assert "Loading weights" not in capfd.readouterr().err


def test_greedy_equals_transformers_for_padded_inputs(pair, any_config):
    ours, theirs = pair(any_config)  # its decoder is deeper than its encoder
    got = ours.greedy(INPUTS, max_length=LENGTH)
    assert got == theirs.greedy(INPUTS, max_length=LENGTH)
    assert len({tuple(row) for row in got}) > 1  # the inputs matter


@pytest.mark.parametrize("prompt", [(1,), (1, 70, 71, 72)])
def test_greedy_equals_transformers_behind_a_decoder_prompt(pair, config, prompt):
    ours, theirs = pair(dataclasses.replace(config, num_encoder_layers=3, num_decoder_layers=2))
    got = ours.greedy(INPUTS, max_length=LENGTH, prompt=prompt)
    assert got == theirs.greedy(INPUTS, max_length=LENGTH, prompt=prompt)
    assert all(tuple(row[: len(prompt)]) == prompt for row in got)


def test_greedy_stops_at_eos_where_transformers_does(pair, config):
    ours, theirs = pair(config)
    eos_id = ours.greedy(INPUTS, max_length=LENGTH)[0][2]  # said early: let it end the sequence
    theirs._model.generation_config.eos_token_id = eos_id
    expected = [_until(row, eos_id) for row in theirs.greedy(INPUTS, max_length=LENGTH)]
    got = generate(CodeT5p(config), ours.params, INPUTS, max_length=LENGTH, eos_id=eos_id)
    assert [_until(row, eos_id) for row in got.tokens.tolist()] == expected
    assert len(expected[0]) <= 3


def _until(row, eos_id):
    return row[: row.index(eos_id) + 1] if eos_id in row else row


def _id(array):
    return array


QUERY = "encoder.block.0.layer.0.SelfAttention.q.weight"


def test_a_tensor_of_another_name_fails(tmp_path, config, random_params, tokenizer):
    pytest.importorskip("transformers")
    export_model(random_params(config), config, tokenizer=tokenizer, out_dir=tmp_path)
    renamed = [
        dataclasses.replace(t, name=t.name.replace("n.q.", "n.query."), read=partial(_id, t.read()))
        for t in read_tensors(tmp_path)
    ]
    write_tensors(tmp_path, renamed)
    problems = TransformersModel(tmp_path).problems
    assert "missing_keys: " + QUERY in problems
    assert any(problem.startswith("unexpected_keys: ") for problem in problems)


def test_a_folder_without_config_is_named(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(FileNotFoundError, match=r"holds no config.json; expected an export"):
        TransformersModel(tmp_path)


def test_an_export_with_other_code_is_not_run(tmp_path, config, random_params, tokenizer):
    pytest.importorskip("transformers")
    export_model(
        random_params(config), config, tokenizer=tokenizer, out_dir=tmp_path, format="bimodal"
    )
    code = tmp_path / "modeling_codet5p_bimodal.py"
    code.write_text(code.read_text() + "\nraise SystemExit('this code must not run')\n")
    with pytest.raises(ValueError, match=r"bimodal\.py is another file, not what this version"):
        TransformersModel(tmp_path)
    code.unlink()
    with pytest.raises(ValueError, match=r"bimodal\.py is missing, not what this version"):
        TransformersModel(tmp_path)


def test_without_torch_the_extra_to_install_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'codet5p_jax\[hf\]'"):
        TransformersModel(tmp_path)
