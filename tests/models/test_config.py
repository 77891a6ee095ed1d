import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from codet5p_jax.models.codet5p import abstract_params
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.encoder_decoder import config_from_dict, with_execution_fields
from codet5p_jax.models.layers import gelu_new
from codet5p_jax.models.sizes import MODELS, model_config

# Released checkpoints, from the sizes of their files (paper, section 4.3)
PUBLISHED = {
    "codet5p_110m_embedding": 109_806_208,
    "codet5p_220m": 222_882_048,
    "codet5p_220m_bimodal": 223_082_754,
    "codet5p_770m": 737_639_424,
}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_parameter_counts_equal_the_published_ones(name, count):
    assert model_config(name).num_parameters() == count


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("untied_and_gated", [False, True])
def test_counted_parameters_are_those_that_are_made(name, untied_and_gated):
    config = MODELS[name]
    if untied_and_gated and isinstance(config, T5Config):
        config = dataclasses.replace(config, tie_embeddings=False, gated_mlp=True)
    made = sum(leaf.size for leaf in jax.tree.leaves(nn.unbox(abstract_params(config))))
    tables = 2 if config.num_decoder_layers and untied_and_gated else 1
    padding = (config.padded_vocab_size - config.vocab_size) * config.embed_dim * tables
    assert config.num_parameters() == made - padding


def test_vocabulary_is_padded_to_a_multiple_of_128():
    assert MODELS["codet5p_220m"].padded_vocab_size == 32_128
    assert dataclasses.replace(MODELS["codet5p_220m"], vocab_size=256).padded_vocab_size == 256


def test_match_id_is_the_first_task_token():
    assert MODELS["codet5p_220m_bimodal"].match_id == 32_100


def test_activation_follows_the_gate_unless_given():
    assert MODELS["codet5p_test"].activation is nn.relu
    gated = dataclasses.replace(MODELS["codet5p_test"], activation=None, gated_mlp=True)
    assert gated.activation is gelu_new
    assert dataclasses.replace(gated, activation=nn.silu).activation is nn.silu


@pytest.mark.parametrize("name", MODELS)
def test_a_config_survives_json(name):
    policy = jax.checkpoint_policies.dots_saveable
    config = with_execution_fields(MODELS[name], dtype=jnp.bfloat16, remat_policy=policy)
    assert config.dtype == jnp.bfloat16
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_field_in_json_names_the_nearest():
    values = MODELS["codet5p_test"].to_dict() | {"mlp_dims": 3}
    with pytest.raises(ValueError, match="no field 'mlp_dims'; did you mean 'mlp_dim'"):
        T5Config.from_dict(values)


def test_a_function_without_a_name_cannot_be_written():
    config = dataclasses.replace(MODELS["codet5p_test"], activation=lambda x: x)
    with pytest.raises(ValueError, match="top level of a module"):
        config.to_dict()


def test_unknown_model_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(
        ValueError, match=r"did you mean 'codet5p_220m'.*Known models: codet5p_110m"
    ):
        model_config("codet5p_220M")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 0}, "T5Config.num_heads is 0; it must be at least 1"),
        ({"scan_unroll": 0}, "T5Config.scan_unroll is 0"),
        ({"layer_norm_epsilon": -1.0}, "epsilon is -1.0; it must be at least 0 and finite"),
        ({"layer_norm_epsilon": math.nan}, "epsilon is nan; it must be at least 0 and finite"),
        ({"embedding_stddev": math.inf}, "stddev is inf; it must be at least 0 and finite"),
        ({"dropout_rate": 1.0}, "T5Config.dropout_rate is 1.0; expected 0 <= it < 1"),
        ({"relative_position_buckets": 6}, "must be a multiple of 4"),
        ({"relative_position_max_distance": 16}, "must exceed relative_position_buckets // 2"),
        ({"num_decoder_layers": 0}, "Set matching_head=False"),
    ],
)
def test_impossible_shapes_are_errors_that_say_what_to_change(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(MODELS["codet5p_test"], **change)
