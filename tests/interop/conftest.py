"""Tiny models and a tokenizer, shared by the tests of this layer."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn

from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.codet5p import abstract_params
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig
from codet5p_jax.tokenizer import load_tokenizer, train_tokenizer
from tests.codegen_folder import write_codegen_folder

# Real enough for a byte-level BPE of a few dozen merges: 5 + 256 entries and some.
TEXTS = [
    "def mean(values):\n    return sum(values) / len(values)\n" * 20,
    "class A:\n\tpass\n" * 20,
]
T5_FORMATS = ("t5", "embedding", "bimodal")
BASE_SIZE = 290  # 393 ids with all special tokens: 119 padding rows

# Sizes all different, and heads * head_dim != embed_dim, so that no swapped axis fits.
SMALL = T5Config(
    vocab_size=BASE_SIZE + 103,
    embed_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=3,
    num_heads=3,
    head_dim=8,
    mlp_dim=20,
    relative_position_buckets=8,
    relative_position_max_distance=12,
    dropout_rate=0.0,
    projection_dim=12,
    matching_head=True,
)
VARIANTS = {
    "tied_relu": SMALL,
    "untied_relu": dataclasses.replace(SMALL, tie_embeddings=False),
    "tied_gated": dataclasses.replace(SMALL, gated_mlp=True, activation=None),
    "untied_gated": dataclasses.replace(
        SMALL, gated_mlp=True, activation=None, tie_embeddings=False
    ),
}

ROWS = 512  # bytes, a few merges, 38 runs, 105 special tokens, and rows that mean nothing
ENCODER = CodeGenConfig(
    vocab_size=ROWS, embed_dim=32, num_layers=2, num_heads=4, rotary_dim=4, mlp_dim=128
)
DECODER = CodeGenConfig(
    vocab_size=ROWS, embed_dim=64, num_layers=3, num_heads=8, rotary_dim=6, mlp_dim=40
)


@pytest.fixture(scope="session")
def codegen_folder(tmp_path_factory):
    """A folder with a tokenizer of CodeGen's kind."""
    return write_codegen_folder(tmp_path_factory.mktemp("codegen"), TEXTS, vocab_size=300)


@pytest.fixture(scope="session")
def codegen_tokenizer(codegen_folder):
    return load_tokenizer(codegen_folder)


@pytest.fixture(scope="session")
def two_codegens(codegen_tokenizer):
    """Returns a config of two CodeGens for the tokenizer."""
    names = ("pad_id", "start_id", "eos_id", "clm_id", "match_id")
    ids = {name: getattr(codegen_tokenizer, name) for name in names}

    def config(encoder=ENCODER, decoder=DECODER, **fields):
        return EncoderDecoderConfig(encoder=encoder, decoder=decoder, **{**ids, **fields})

    return config


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(TEXTS, BASE_SIZE, min_frequency=2)


@pytest.fixture
def config():
    return SMALL


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def any_config(request):
    return request.param


@pytest.fixture(scope="session")
def random_params():
    """Returns all-random numpy parameters of a config: norms, heads and padding rows too."""

    def draw(config, *, seed=0):
        shapes = nn.unbox(abstract_params(config))
        rng = np.random.default_rng(seed)
        return jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype("float32"), shapes)

    return draw


@pytest.fixture(scope="session")
def held_by_t5():
    """Returns what the t5 format holds: no heads, and zeros for the padding rows."""

    def without(params, config):
        held = {k: v for k, v in params.items() if k not in ("projection", "matching_head")}
        real = np.arange(config.padded_vocab_size) < config.vocab_size
        embedding = np.where(real[:, None], held["token_embedder"]["embedding"], 0)
        held["token_embedder"] = {"embedding": embedding.astype("float32")}
        if "lm_head" in held:
            kernel = np.where(real[None], held["lm_head"]["kernel"], 0)
            held["lm_head"] = {"kernel": kernel.astype("float32")}
        return held

    return without
