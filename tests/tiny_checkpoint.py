"""A MODEL_DIR with a tiny untrained model, for what reads one."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn

from codet5p_jax.models.codet5p import abstract_params
from codet5p_jax.models.sizes import model_config
from codet5p_jax.tokenizer import train_tokenizer
from codet5p_jax.training.checkpoints import save_params


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """The model has a projection and a matching head; random weights, checkpoint_7."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = train_tokenizer(
        ["def mean(values):\n    return values\n" * 9], 270, min_frequency=2
    )
    tokenizer.save(folder / "its_tokenizer")
    config = dataclasses.replace(
        model_config("codet5p_test"), vocab_size=tokenizer.with_task_tokens().vocab_size
    )
    draw = np.random.default_rng(0).normal
    params = jax.tree.map(
        lambda leaf: draw(0, 0.3, leaf.shape).astype("float32"), nn.unbox(abstract_params(config))
    )
    metadata = {
        "model": config.to_dict(),
        "tokenizer": {
            "path": str(folder / "its_tokenizer"),
            "fingerprint": tokenizer.fingerprint,
        },
        "task_feature_lengths": {
            "span_denoising": {"inputs": 32, "targets": 16},
            "seq2seq_clm": {"inputs": 16, "targets": 16},
        },
    }
    save_params(folder / "model", params, metadata, step=7)
    return folder / "model"
