"""Tests of `codet5p train` on instructions alone, and with CodeGen's tokenizer."""

import json

import numpy as np
import pytest
import seqio

from codet5p_jax.training.checkpoints import load_metadata
from tests.corpora import (  # noqa: F401
    codegen,
    codegen_dir,
    finished_corpus_dir,
    registry,
    tokenizer,
    tokenizer_dir,
)

pytestmark = pytest.mark.usefixtures("registry")
SMALL = """
from __gin__ import dynamic_registration
from codet5p_jax.models import config
from codet5p_jax.training import partitioning
from tests import few_devices

INSTRUCTION_LENGTHS = {"inputs": 160, "targets": 200}
BATCH_SIZE = 8
NUM_VIRTUAL_SHARDS = 2
TRAIN_STEPS = 2
WARMUP_STEPS = 1
LOG_PERIOD = 1
EVAL_PERIOD = None
partitioning.Partitioner.devices = @few_devices.first_device()
"""
CODEGEN = """
from __gin__ import dynamic_registration
from codet5p_jax.models import codegen
from codet5p_jax.models import codet5p
from codet5p_jax.models import encoder_decoder

MODEL = @codet5p.CodeT5p()
codet5p.CodeT5p.config = @encoder_decoder.EncoderDecoderConfig()
encoder_decoder.EncoderDecoderConfig:
  encoder = @codegen.CodeGenConfig()
  decoder = @codegen.CodeGenConfig()
  pad_id = {pad_id}
  start_id = {start_id}
  eos_id = {eos_id}
  clm_id = {clm_id}
  match_id = {match_id}
codegen.CodeGenConfig:
  vocab_size = {rows}
  embed_dim = 16
  num_layers = 2
  num_heads = 4
  mlp_dim = 32
  rotary_dim = 2
"""
IDS = ("pad_id", "start_id", "eos_id", "clm_id", "match_id")


def _codegen_model(codegen, **changes):  # noqa: F811
    ids = {name: getattr(codegen, name) for name in IDS}
    return CODEGEN.format(**{"rows": codegen.vocab_size + 9, **ids, **changes})


@pytest.fixture
def instructions(tmp_path):
    records = [{"instruction": f"Say {i}!", "output": f"number {i}!"} for i in range(60)]
    (tmp_path / "say.json").write_text(json.dumps(records))
    return tmp_path / "say.json"


@pytest.fixture
def train(codet5p, tmp_path, instructions):
    """Returns a function that trains two steps of a model."""

    def run(model, folder, *, extra="", model_dir="run", files=None):
        (tmp_path / "model.gin").write_text(model)
        (tmp_path / "small.gin").write_text(SMALL + extra)
        names = (tmp_path / "model.gin", "runs/pretrain.gin", "objectives/instruction.gin")
        return codet5p(
            "train",
            *(f"--gin_file={name}" for name in (*names, tmp_path / "small.gin")),
            f"--gin.MODEL_DIR={tmp_path / model_dir}",
            f"--gin.TOKENIZER_DIR={folder}",
            f"--gin.INSTRUCTION_FILES={files or {'say': str(instructions)}}",
        )

    return run


def _t5(tokenizer):  # noqa: F811
    return f"""
from __gin__ import dynamic_registration
from codet5p_jax.models import config

include "models/codet5p_test.gin"
config.T5Config.vocab_size = {tokenizer.vocab_size}
"""


def test_instructions_need_no_corpus_and_their_file_is_the_runs_identity(
    train,
    tokenizer,  # noqa: F811
    tokenizer_dir,  # noqa: F811
    tmp_path,
    instructions,
):
    code, _, error = train(_t5(tokenizer), tokenizer_dir)
    assert code == 0, error
    metadata = load_metadata(tmp_path / "run")
    assert metadata["corpus"] is None
    assert metadata["instruction_files"]["say"]["path"] == str(instructions)
    assert metadata["task_feature_lengths"] == {"instruction": {"inputs": 160, "targets": 200}}
    identity = json.loads((tmp_path / "run" / "run.json").read_text())
    assert set(identity) == {"model", "tokenizer", "instruction_say"}
    instructions.write_text(json.dumps([{"instruction": f"{i}", "output": "b"} for i in range(60)]))
    seqio.TaskRegistry.reset()  # as in another process
    seqio.MixtureRegistry.reset()
    code, _, error = train(_t5(tokenizer), tokenizer_dir)
    assert code == 2 and "instruction_say: it holds '" in error


def test_codegen_based_models_learn_from_instructions(train, codegen, codegen_dir, tmp_path):  # noqa: F811
    code, _, error = train(_codegen_model(codegen), codegen_dir)
    assert code == 0, error
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    logged = {name: value for line in lines for name, value in json.loads(line).items()}
    # Untrained logits are nearly alike.
    expected = np.log(codegen.vocab_size + 9)
    assert logged["instruction/cross_entropy"] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pad_id": 0}, "made for another tokenizer: it has pad_id 0, not 1042 as"),
        ({"rows": 1_042, "pad_id": 7}, "has 1,042 rows for ids, but the tokenizer has 1,043"),
    ],
)
def test_a_model_of_another_tokenizer_is_refused(
    train,
    codegen,  # noqa: F811
    codegen_dir,  # noqa: F811
    tmp_path,
    changes,
    message,
):
    code, _, error = train(_codegen_model(codegen, **changes), codegen_dir)
    assert code == 2 and message in error, error
    assert not (tmp_path / "run").exists()


def test_a_stream_that_reads_a_corpus_asks_for_one(
    train,
    tokenizer,  # noqa: F811
    tokenizer_dir,  # noqa: F811
):
    extra = (
        "from codet5p_jax.data import batches\n"
        'instruction/batches.DatasetConfig.mixture_or_task_name = "unimodal_decoder_clm_go"\n'
    )
    code, _, error = train(_t5(tokenizer), tokenizer_dir, extra=extra)
    assert code == 2
    assert "CORPUS_DIR is None, but stream 'instruction' reads 'unimodal_decoder_clm_go'" in error


def test_without_a_file_of_instructions_there_is_nothing_to_register(
    train,
    tokenizer,  # noqa: F811
    tokenizer_dir,  # noqa: F811
):
    code, _, error = train(_t5(tokenizer), tokenizer_dir, files="{}")
    assert code == 2 and "nothing to register: neither a corpus nor a file of instr" in error
