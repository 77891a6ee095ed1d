"""A tiny random model both of whose halves are CodeGen's, for a tokenizer of that kind."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from codet5p_jax.evaluation.losses import TrainedModel
from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.codet5p import CodeT5p, abstract_params
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig
from codet5p_jax.training.checkpoints import save_params

IDS = ("pad_id", "start_id", "eos_id", "clm_id", "match_id")


def codegen_config(tokenizer, *, rows=None, **changes):
    half = CodeGenConfig(
        vocab_size=rows or tokenizer.vocab_size,
        embed_dim=16,
        num_layers=2,
        num_heads=4,
        mlp_dim=32,
        rotary_dim=2,
    )
    ids = {name: getattr(tokenizer, name) for name in IDS}
    return EncoderDecoderConfig(encoder=half, decoder=half, **{**ids, **changes})


def trained_codegen(tokenizer, *, rows=None, **changes):
    """With parameters that are large enough for its predictions to differ."""
    config = codegen_config(tokenizer, rows=rows, **changes)
    draw = np.random.default_rng(0).normal
    params = jax.tree.map(
        lambda leaf: jnp.asarray(draw(0, 0.5, leaf.shape), jnp.float32),
        nn.unbox(abstract_params(config)),
    )
    return TrainedModel(model=CodeT5p(config), params=params)


def save_codegen_run(model_dir, tokenizer, tokenizer_dir, **lengths):
    """Writes a MODEL_DIR with checkpoint_7 of such a model; `lengths` are those of its streams."""
    trained = trained_codegen(tokenizer, rows=tokenizer.vocab_size + 9)
    metadata = {
        "model": trained.model.config.to_dict(),
        "tokenizer": {"path": str(tokenizer_dir), "fingerprint": tokenizer.fingerprint},
        "task_feature_lengths": lengths,
    }
    save_params(model_dir, jax.tree.map(np.asarray, trained.params), metadata, step=7)
    return model_dir
