"""Tests of `codet5p init`, and of the way from two language models to an export."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util

from codet5p_jax.checkpoint import load_checkpoint
from codet5p_jax.loaded_model import load_model
from codet5p_jax.models.codet5p import CodeT5p
from tests.cli.test_train_instructions import IDS, SMALL
from tests.corpora import (  # noqa: F401
    codegen,
    codegen_dir,
    finished_corpus_dir,
    registry,
    tokenizer,
    tokenizer_dir,
)
from tests.models.language_models import codegen_config, codegen_oracle, llama_config, llama_oracle

pytestmark = pytest.mark.usefixtures("registry")
MODEL = """
from __gin__ import dynamic_registration
from codet5p_jax.models import codegen
from codet5p_jax.models import codet5p
from codet5p_jax.models import encoder_decoder

MODEL = @codet5p.CodeT5p()
codet5p.CodeT5p.config = @encoder_decoder.EncoderDecoderConfig()
encoder_decoder.EncoderDecoderConfig:
  encoder = @encoder/codegen.CodeGenConfig()
  decoder = @decoder/codegen.CodeGenConfig()
  pad_id = {pad_id}
  start_id = {start_id}
  eos_id = {eos_id}
  clm_id = {clm_id}
  match_id = {match_id}
codegen.CodeGenConfig:
  vocab_size = {rows}
  num_layers = 2
encoder/codegen.CodeGenConfig:
  embed_dim = 32
  num_heads = 4
  mlp_dim = 128
  rotary_dim = 4
decoder/codegen.CodeGenConfig:
  embed_dim = 48
  num_heads = 8
  mlp_dim = 192
  rotary_dim = 4
"""


@pytest.fixture
def folders(tmp_path, codegen, codegen_dir):  # noqa: F811
    """Two CodeGens and a Llama in Hugging Face format, with one tokenizer."""
    pytest.importorskip("transformers")
    rows = codegen.vocab_size + 9
    small = codegen_config(heads=4, head_dim=8, rotary_dim=4, layers=2, vocab_size=rows)
    large = codegen_config(heads=8, head_dim=6, rotary_dim=4, layers=2, vocab_size=rows)
    llama = dataclasses.replace(llama_config(), vocab_size=codegen.base_size)
    oracles = {
        "small": codegen_oracle(small),
        "large": codegen_oracle(large),
        "llama": llama_oracle(llama),
    }
    for name, oracle in oracles.items():
        shutil.copytree(codegen_dir, tmp_path / name)
        oracle.torch_model.save_pretrained(tmp_path / name)
    return tmp_path


def _init(codet5p, folders, *words, decoder="large", out="start"):
    return codet5p(
        "init",
        f"--encoder={folders / 'small'}",
        f"--decoder={folders / decoder}",
        f"--out={folders / out}",
        *words,
    )


def _same(left, right):
    left, right = (traverse_util.flatten_dict(dict(tree), sep="/") for tree in (left, right))
    assert left.keys() == right.keys()
    for path, leaf in left.items():
        assert leaf.dtype == right[path].dtype, path
        np.testing.assert_array_equal(leaf, right[path], err_msg=path)


def test_from_two_language_models_to_an_export_and_back(
    codet5p,
    folders,
    codegen,  # noqa: F811
):
    code, out, error = _init(codet5p, folders)
    assert code == 0, error
    assert f"INITIAL_CHECKPOINT_PATH={folders / 'start'}" in out
    start = load_checkpoint(folders / "start")

    ids = {name: getattr(codegen, name) for name in IDS}
    (folders / "model.gin").write_text(MODEL.format(rows=codegen.vocab_size + 9, **ids))
    (folders / "small.gin").write_text(SMALL)
    (folders / "say.json").write_text(
        "[" + ",".join(f'{{"instruction": "{i}?", "output": "{i}!"}}' for i in range(60)) + "]"
    )
    gin_files = (
        folders / "model.gin",
        "runs/pretrain.gin",
        "objectives/instruction.gin",
        "models/frozen_decoder.gin",
        folders / "small.gin",
    )
    code, _, error = codet5p(
        "train",
        *(f"--gin_file={name}" for name in gin_files),
        f"--gin.MODEL_DIR={folders / 'run'}",
        f"--gin.TOKENIZER_DIR={folders / 'start' / 'tokenizer'}",
        f"--gin.INSTRUCTION_FILES={ {'say': str(folders / 'say.json')} }",
        f"--gin.INITIAL_CHECKPOINT_PATH={folders / 'start'}",
    )
    assert code == 0, error
    trained = load_checkpoint(folders / "run")
    assert trained.step == 2
    before, after = (traverse_util.flatten_dict(dict(c.params), sep="/") for c in (start, trained))
    for path, leaf in after.items():
        frozen = path.startswith("decoder/") and "/cross_attention/" not in path
        assert leaf.dtype == (ml_dtypes.bfloat16 if frozen else np.float32), path
        assert np.array_equal(leaf, before[path]) == frozen, path

    code, _, error = codet5p("export", f"--model_dir={folders / 'run'}", f"--out={folders / 'hf'}")
    assert code == 0, error
    code, out, error = codet5p(
        "verify", f"--export={folders / 'hf'}", f"--model_dir={folders / 'run'}", "--max_length=4"
    )
    assert code == 0 and "PASSED" in out, out + error
    code, _, error = codet5p("import", f"--from={folders / 'hf'}", f"--out={folders / 'again'}")
    assert code == 0, error
    again = load_checkpoint(folders / "again")
    assert again.config == trained.config
    _same(again.params, trained.params)

    words = ("--task=continue_both", "--text=def f(x):", "--max_length=5")
    code, ours, error = codet5p("infer", f"--model_dir={folders / 'run'}", *words)
    assert code == 0, error
    code, theirs, error = codet5p("infer", f"--export={folders / 'hf'}", *words)
    assert code == 0 and ours == theirs, error


def test_new_rows_of_the_vocabulary_are_told(codet5p, folders, codegen):  # noqa: F811
    code, out, _ = _init(codet5p, folders, "--cross_attention_layers=2", decoder="llama")
    assert code == 0
    rows = codegen.vocab_size + 9
    assert f"The vocabulary of the decoder grows by 114 rows to {rows:,}, for the" in out
    assert "vocabulary of the encoder" not in out
    checkpoint = load_checkpoint(folders / "start")
    assert checkpoint.config.cross_attention_layers == 2
    origin = checkpoint.metadata["initialized_from"]
    assert (origin["encoder"]["name"], origin["decoder"]["name"]) == ("small", "llama")
    assert origin["decoder"]["new_rows"] == 114
    config = checkpoint.config
    tokens = jnp.array([[5, 6, 7]])
    params = jax.tree.map(jnp.asarray, dict(checkpoint.params))
    logits = jax.jit(CodeT5p(config).apply)({"params": params}, tokens, tokens)
    assert np.isfinite(logits).all()
    assert load_model(folders / "start").generate(["x"], task="continue_both", max_length=2)


def test_nothing_is_overwritten_and_nothing_half_written_is_left(codet5p, folders):
    assert _init(codet5p, folders)[0] == 0
    code, _, error = _init(codet5p, folders)
    assert code == 2 and "already holds checkpoint_0; nothing was overwritten" in error
    (folders / "large" / "model.safetensors").write_bytes(b"cut off")
    code, _, error = _init(codet5p, folders, out="other")
    assert code == 2 and "model.safetensors" in error
    assert not [path.name for path in folders.iterdir() if "other" in path.name]


def test_an_import_of_half_a_model_names_init(codet5p, folders):
    code, _, error = codet5p("import", f"--from={folders / 'small'}", f"--out={folders / 'out'}")
    assert code == 2 and "half of a model: make one of it with `codet5p init`" in error
