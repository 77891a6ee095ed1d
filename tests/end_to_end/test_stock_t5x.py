"""T5X's own training script trains our model from our gin file, where T5X is installed."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

from codet5p_jax.tokenizer import CodeTokenizer
from tests.corpora import LANGUAGES, corpus_dir, tokenizer, tokenizer_dir  # noqa: F401

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("t5x") is None, reason="T5X has no release; see docs/t5x.md"
    ),
]


def test_stock_t5x_trains_from_our_gin_file(corpus_dir, tokenizer_dir, tmp_path):  # noqa: F811
    toy = {
        "MODEL_DIR": str(tmp_path / "run"),
        "CORPUS_DIR": str(corpus_dir),
        "TOKENIZER_DIR": str(tokenizer_dir),
        "VOCAB_SIZE": CodeTokenizer.from_directory(tokenizer_dir).vocab_size,
        "TRAIN_STEPS": 4,
        "WARMUP_STEPS": 1,
        "BATCH_SIZE": 8,
        "TASK_FEATURE_LENGTHS": {"inputs": 64, "targets": 32},
        "config.T5Config.embed_dim": 32,
        "config.T5Config.num_encoder_layers": 1,
        "config.T5Config.num_decoder_layers": 1,
        "config.T5Config.num_heads": 2,
        "config.T5Config.mlp_dim": 64,
        "train.eval_period": 2,
        "train.eval_steps": 1,
        "utils.SaveCheckpointConfig.period": 2,
        "tasks.registered_vocabulary.languages": LANGUAGES,
    }
    command = [
        sys.executable,
        "-m",
        "t5x.train",
        f"--gin_search_paths={ROOT / 'gin'}",
        "--gin_file=t5x/span_denoising_220m.gin",
        *(f"--gin.{name}={value!r}" for name, value in toy.items()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "checkpoint_4").is_dir()
