"""A tiny random T5 of transformers as the oracle, and its weights in our tree."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.config import T5Config

# Sizes all different, heads * head_dim != embed_dim, and no padding rows in the vocabulary.
SMALL = T5Config(
    vocab_size=128,
    embed_dim=16,
    num_encoder_layers=3,
    num_decoder_layers=2,
    num_heads=3,
    head_dim=8,
    mlp_dim=20,
    relative_position_buckets=8,
    relative_position_max_distance=12,
    dropout_rate=0.0,
)
VARIANTS = {
    "tied_relu": SMALL,
    "untied_relu": dataclasses.replace(SMALL, tie_embeddings=False),
    "tied_gated_gelu": dataclasses.replace(SMALL, gated_mlp=True, activation=None),
    "untied_gated_gelu": dataclasses.replace(
        SMALL, gated_mlp=True, activation=None, tie_embeddings=False
    ),
}
MLP = {
    False: {"wi": "DenseReluDense.wi", "wo": "DenseReluDense.wo"},
    True: {
        "wi_0": "DenseReluDense.wi_0",
        "wi_1": "DenseReluDense.wi_1",
        "wo": "DenseReluDense.wo",
    },
}
PROJECTIONS = {"query": "q", "key": "k", "value": "v", "out": "o"}


@dataclasses.dataclass(frozen=True)
class Oracle:
    """A torch T5 and the same weights in our tree."""

    config: T5Config
    torch_model: object
    params: dict

    @property
    def model(self):
        return CodeT5p(self.config)

    @property
    def variables(self):
        return {"params": self.params}

    def gradients(self):
        """The torch model's gradients, in our tree."""
        named = self.torch_model.named_parameters()
        return _tree(self.config, {name: value.grad.numpy() for name, value in named})


def _tree(config, weights):
    """Returns transformers' weights (or gradients) by our names, layers stacked."""

    def attention(stack, layer, sublayer, kind):
        block = f"{stack}.block.{layer}.layer.{sublayer}.{kind}"
        return {
            ours: {"kernel": weights[f"{block}.{theirs}.weight"].T}
            for ours, theirs in PROJECTIONS.items()
        }

    def norm(stack, layer, sublayer):
        return {"scale": weights[f"{stack}.block.{layer}.layer.{sublayer}.layer_norm.weight"]}

    def mlp(stack, layer, sublayer):
        block = f"{stack}.block.{layer}.layer.{sublayer}"
        names = MLP[config.gated_mlp]
        return {k: {"kernel": weights[f"{block}.{v}.weight"].T} for k, v in names.items()}

    def layer(stack, index):
        tree = {
            "attention_norm": norm(stack, index, 0),
            "attention": attention(stack, index, 0, "SelfAttention"),
        }
        last = 1
        if stack == "decoder":
            tree["cross_attention_norm"] = norm(stack, index, 1)
            tree["cross_attention"] = attention(stack, index, 1, "EncDecAttention")
            last = 2
        return tree | {"mlp_norm": norm(stack, index, last), "mlp": mlp(stack, index, last)}

    def stack(name, layers):
        table = f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        layers = [layer(name, index) for index in range(layers)]
        return {
            "relative_position_bias": {"embedding": weights[table]},
            "layers": jax.tree.map(lambda *leaves: np.stack(leaves), *layers),
            "final_norm": {"scale": weights[f"{name}.final_layer_norm.weight"]},
        }

    tree = {
        "token_embedder": {"embedding": weights["shared.weight"]},
        "encoder": stack("encoder", config.num_encoder_layers),
        "decoder": stack("decoder", config.num_decoder_layers),
    }
    if not config.tie_embeddings:
        tree["lm_head"] = {"kernel": weights["lm_head.weight"].T}
    return jax.tree.map(jnp.asarray, tree)


def _torch_model(config):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=config.vocab_size,
            d_model=config.embed_dim,
            d_kv=config.head_dim,
            d_ff=config.mlp_dim,
            num_layers=config.num_encoder_layers,
            num_decoder_layers=config.num_decoder_layers,
            num_heads=config.num_heads,
            relative_attention_num_buckets=config.relative_position_buckets,
            relative_attention_max_distance=config.relative_position_max_distance,
            feed_forward_proj="gated-gelu" if config.gated_mlp else "relu",
            tie_word_embeddings=config.tie_embeddings,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
    )
    if not config.tie_embeddings:  # transformers 5 ties whatever the config says
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases too: nothing may hide at 0 or 1
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def _oracle(config):
    torch_model = _torch_model(config)
    weights = {name: value.detach().numpy() for name, value in torch_model.state_dict().items()}
    return Oracle(config, torch_model, _tree(config, weights))


@pytest.fixture(scope="session", params=VARIANTS.values(), ids=VARIANTS.keys())
def any_oracle(request):
    return _oracle(request.param)


@pytest.fixture(scope="session")
def oracle():
    return _oracle(SMALL)


@pytest.fixture(scope="session")
def gated_oracle():
    return _oracle(VARIANTS["untied_gated_gelu"])


@pytest.fixture(scope="session")
def padded_batch():
    """Encoder and decoder tokens of three rows of unequal length; 0 is padding."""
    rng = np.random.default_rng(0)
    encoder, decoder = rng.integers(4, 128, [3, 17]), rng.integers(4, 128, [3, 9])
    encoder[1, 11:], encoder[2, 3:], decoder[2, 5:] = 0, 0, 0
    decoder[:, 0] = 0  # the decoder's start is the padding id
    return jnp.asarray(encoder, jnp.int32), jnp.asarray(decoder, jnp.int32)


@pytest.fixture(scope="session")
def initialised():
    """Returns (model, variables) of a config, randomly initialised, heads included."""

    @functools.cache
    def init(config):
        model = CodeT5p(config)
        tokens = jnp.ones([1, 2], jnp.int32)
        return model, nn.unbox(jax.jit(model.init)(jax.random.key(0), tokens, tokens))

    return init
