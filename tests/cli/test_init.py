"""Tests of `codet5p init`, and of the way from two language models to an export."""

import dataclasses
import shutil

import gin
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import save_file

from codet5p_jax.checkpoint import load_checkpoint
from codet5p_jax.cli import gin_config
from codet5p_jax.cli.model_start import model_gin
from codet5p_jax.interop.folders import read_tensors
from codet5p_jax.loaded_model import load_model
from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig
from codet5p_jax.models.layers import gelu_new
from codet5p_jax.models.llama import LlamaConfig
from tests.cli.test_train_instructions import SMALL
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


def test_from_two_language_models_to_an_export_and_back(codet5p, folders):
    code, out, error = _init(codet5p, folders)
    assert code == 0, error
    assert f"INITIAL_CHECKPOINT_PATH={folders / 'start'}" in out
    start = load_checkpoint(folders / "start")

    (folders / "small.gin").write_text(SMALL)
    (folders / "say.json").write_text(
        "[" + ",".join(f'{{"instruction": "{i}?", "output": "{i}!"}}' for i in range(60)) + "]"
    )
    gin_files = (
        folders / "start" / "model.gin",
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


CODEGEN = CodeGenConfig(vocab_size=64, embed_dim=16, num_layers=2, num_heads=4, mlp_dim=32)
LLAMA = LlamaConfig(
    vocab_size=64, embed_dim=24, num_layers=2, num_heads=4, mlp_dim=32, tie_embeddings=True
)
T5 = T5Config(
    vocab_size=64,
    embed_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=0,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
)


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        (CODEGEN, LLAMA),
        (LLAMA, LLAMA),
        (T5, CODEGEN),
        (dataclasses.replace(T5, gated_mlp=True, activation=gelu_new), CODEGEN),
    ],
)
def test_the_gin_file_describes_the_model_that_was_made(tmp_path, encoder, decoder):
    ids = {"pad_id": 1, "start_id": 2, "eos_id": 3, "clm_id": 4, "match_id": 5}
    config = EncoderDecoderConfig(encoder=encoder, decoder=decoder, cross_attention_layers=2, **ids)
    _assert_described(config, tmp_path)


def test_the_gin_file_of_a_t5_describes_it(tmp_path):
    _assert_described(dataclasses.replace(T5, num_decoder_layers=2, projection_dim=8), tmp_path)


def _assert_described(config, tmp_path):
    (tmp_path / "model.gin").write_text(model_gin(config))
    gin_config.parse(gin_files=["models/codet5p_2b.gin", str(tmp_path / "model.gin")], bindings=[])
    model = gin.query_parameter("MODEL/gin.macro.value").scoped_configurable_fn()
    assert model.config.to_dict() == config.to_dict()


@pytest.mark.parametrize("layers", [1, 2])
def test_the_language_model_of_a_decoder_comes_out_as_it_went_in(codet5p, folders, layers):
    _init(codet5p, folders, f"--cross_attention_layers={layers}")
    start, out = folders / "start", folders / "alone"
    code, told, error = codet5p(
        "export", f"--model_dir={start}", "--format=codegen", f"--out={out}"
    )
    assert code == 0, error
    assert "encoder_to_decoder/kernel" in told  # left out, and said so
    exported = {tensor.name: tensor.read() for tensor in read_tensors(out)}
    given = {tensor.name: tensor.read() for tensor in read_tensors(folders / "large")}
    assert exported.keys() == given.keys()
    for name, tensor in given.items():
        np.testing.assert_array_equal(exported[name], tensor.astype(ml_dtypes.bfloat16), name)
    code, told, error = codet5p("verify", f"--export={out}", f"--model_dir={start}")
    assert code == 0 and "PASSED" in told, told + error
    code, _, error = codet5p("import", f"--from={out}", f"--out={folders / 'again'}")
    assert code == 2 and "CodeGenForCausalLM" in error and "codet5p init" in error


def test_verify_takes_no_model_of_another_architecture(codet5p, folders, model_dir):
    _init(codet5p, folders)
    out = folders / "alone"
    codet5p("export", f"--model_dir={folders / 'start'}", "--format=codegen", f"--out={out}")
    code, _, error = codet5p("verify", f"--export={out}", f"--model_dir={model_dir}")
    assert code == 2
    assert f"{out} is of another architecture than {model_dir}: it holds CodeGenForCaus" in error
    assert "T5Config describes the model of the checkpoint. Give the MODEL_DIR that" in error


def test_verify_finds_another_language_model(codet5p, folders):
    _init(codet5p, folders)
    start, out = folders / "start", folders / "alone"
    codet5p("export", f"--model_dir={start}", "--format=codegen", f"--out={out}")
    tensors = {tensor.name: tensor.read() for tensor in read_tensors(out)}
    name = "transformer.h.1.attn.qkv_proj.weight"
    tensors[name] = np.roll(tensors[name], 6, axis=0)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    code, told, _ = codet5p("verify", f"--export={out}", f"--model_dir={start}")
    assert code == 1 and "FAILED" in told
