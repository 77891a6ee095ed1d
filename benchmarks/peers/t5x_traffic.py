"""The peer of the traffic benchmark: T5X's own network, loss and Adafactor, data parallel.

T5X's partitioner finds no mesh on v5e, so its rules are applied to a mesh of ours.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax.linen import partitioning
from jax.sharding import NamedSharding, PartitionSpec
from t5x import adafactor, models
from t5x.examples.t5 import network

from codet5p_jax.models.config import T5Config
from codet5p_jax.training.ahead_of_time import topology_devices
from codet5p_jax.training.mesh import make_mesh
from codet5p_jax.typing import PyTree

TOKENS = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
REPLICATED = ("vocab", "embed", "mlp", "heads", "kv", "joined_kv", "length", "layers")


class Vocabulary:
    """What T5X's model asks of a vocabulary."""

    vocab_size = 32_128
    eos_id = 1
    pad_id = 0


def lowered_step(config: T5Config, *, rows: int, length: int, topology: str) -> jax.stages.Lowered:
    """Returns T5X's training step for a topology.

    Args:
        config: Shape of the network.
        rows: Of the global batch.
        length: Positions of the encoder, and of the decoder.
        topology: Such as "v5e:4x4".
    """
    optimizer = adafactor.Adafactor(
        decay_rate=0.8,
        step_offset=0,
        logical_factor_rules=adafactor.standard_logical_factor_rules(),
    )
    model = _model(config, optimizer)
    shapes = dict.fromkeys(TOKENS, (1, length))
    variables: Any = jax.eval_shape(
        lambda: model.get_initial_variables(jax.random.PRNGKey(0), shapes)
    )
    optimizer.set_param_axes(partitioning.get_axis_names(variables["params_axes"]))
    state = jax.eval_shape(
        lambda: optimizer.init_state(
            jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables["params"])
        )
    )
    mesh = make_mesh(devices=topology_devices(topology))
    everywhere, by_rows = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    batch = {
        name: jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=by_rows)
        for name in (*TOKENS, "decoder_loss_weights")
    }

    def step(params: PyTree, state: PyTree, batch: PyTree) -> PyTree:
        def loss(params: PyTree) -> jax.Array:
            return model.loss_fn(params, batch, jax.random.PRNGKey(1))[0]

        gradient = jax.grad(loss)(params)
        rates = optimizer.hyper_params.replace(learning_rate=1e-3)
        return optimizer.apply_gradient(rates, params, state, gradient)

    placed = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere),
        (variables["params"], state),
    )
    jitted = jax.jit(step, out_shardings=(everywhere, everywhere), donate_argnums=(0, 1))
    with partitioning.axis_rules([("batch", "data"), *((axis, None) for axis in REPLICATED)]):
        return jitted.lower(*placed, batch)


def _model(config: T5Config, optimizer: adafactor.Adafactor) -> models.EncoderDecoderModel:
    shape = network.T5Config(
        vocab_size=config.vocab_size,
        dtype=config.dtype,
        emb_dim=config.embed_dim,
        num_heads=config.num_heads,
        num_encoder_layers=config.num_encoder_layers,
        num_decoder_layers=config.num_decoder_layers,
        head_dim=config.head_dim,
        mlp_dim=config.mlp_dim,
        mlp_activations=("gelu", "linear"),
        dropout_rate=config.dropout_rate,
        logits_via_embedding=config.tie_embeddings,
    )
    return models.EncoderDecoderModel(
        module=network.Transformer(shape),
        input_vocabulary=Vocabulary(),
        output_vocabulary=Vocabulary(),
        optimizer_def=optimizer,
        z_loss=0.0001,
    )
