"""Tiny random language models of transformers as oracles, and their weights in our tree.

The reordering of CodeGen's fused projections is written here anew, tensor by tensor and head by
head; interop has its own.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.decoder_only import DecoderOnlyDecoder
from codet5p_jax.models.llama import LlamaConfig

GROUPS = 4  # CodeGen was trained on four TPU cores, and its projections are laid out for them


def codegen_config(*, heads, head_dim, rotary_dim, layers=3, vocab_size=128):
    embed_dim = heads * head_dim
    return CodeGenConfig(
        vocab_size=vocab_size,
        embed_dim=embed_dim,
        num_layers=layers,
        num_heads=heads,
        rotary_dim=rotary_dim,
        mlp_dim=4 * embed_dim,
    )


def llama_config(*, heads=6, kv_heads=2, head_dim=8, layers=3, tied=False):
    return LlamaConfig(
        vocab_size=128,
        embed_dim=42,  # is not heads * head_dim
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_dim=56,
        rotary_base=5_000.0,
        tie_embeddings=tied,
    )


@dataclasses.dataclass(frozen=True)
class LanguageModelOracle:
    """A model of transformers, and ours with the same weights."""

    config: object
    torch_model: object
    params: dict

    @property
    def model(self):
        return DecoderOnlyDecoder(self.config)

    def gradients(self):
        named = self.torch_model.named_parameters()
        weights = {name: value.grad.numpy() for name, value in named}
        return _TREES[type(self.config)](self.config, weights)


def codegen_oracle(config):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CodeGenConfig(
        vocab_size=config.vocab_size,
        n_positions=64,
        n_embd=config.embed_dim,
        n_layer=config.num_layers,
        n_head=config.num_heads,
        rotary_dim=config.rotary_dim,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return _oracle(config, transformers.CodeGenForCausalLM(theirs))


def llama_oracle(config):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.embed_dim,
        intermediate_size=config.mlp_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        rope_theta=config.rotary_base,
        rms_norm_eps=config.layer_norm_epsilon,
        tie_word_embeddings=config.tie_embeddings,
        attn_implementation="eager",
    )
    return _oracle(config, transformers.LlamaForCausalLM(theirs))


def _oracle(config, torch_model):
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in torch_model.parameters():  # norms and biases too
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    weights = {name: value.detach().numpy() for name, value in torch_model.named_parameters()}
    return LanguageModelOracle(config, torch_model.eval(), _TREES[type(config)](config, weights))


def _stacked(layers):
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *layers)


def _halves_first(rows, config):
    """Rows [heads, head_dim, in] with the pairs (2 i, 2 i + 1) moved to (i, i + half)."""
    turning = config.rotary_dim
    order = [*range(0, turning, 2), *range(1, turning, 2), *range(turning, config.head_dim)]
    return rows[:, order]


def codegen_tree(config, weights, prefix="transformer."):
    """Returns CodeGen's weights (or gradients) by our names."""

    def layer(index):
        block = f"{prefix}h.{index}"
        fused = weights[f"{block}.attn.qkv_proj.weight"]
        parts = {"query": [], "value": [], "key": []}
        for group in np.split(fused, GROUPS):
            for name, rows in zip(parts, np.split(group, 3), strict=True):
                parts[name].append(rows)
        attention = {"out": {"kernel": weights[f"{block}.attn.out_proj.weight"].T}}
        for name, groups in parts.items():
            rows = np.concatenate(groups).reshape(config.num_heads, config.head_dim, -1)
            rows = rows if name == "value" else _halves_first(rows, config)
            attention[name] = {"kernel": rows.reshape(config.embed_dim, -1).T}

        def biased(name):
            kernel, bias = (weights[f"{block}.mlp.{name}.{kind}"] for kind in ("weight", "bias"))
            return {"kernel": kernel.T, "bias": bias}

        return {
            "norm": _norm(weights, f"{block}.ln_1"),
            "attention": attention,
            "mlp": {"wi": biased("fc_in"), "wo": biased("fc_out")},
        }

    return {
        "token_embedder": {"embedding": jnp.asarray(weights[f"{prefix}wte.weight"])},
        "layers": _stacked([layer(index) for index in range(config.num_layers)]),
        "final_norm": _norm(weights, f"{prefix}ln_f"),
        "lm_head": {
            "kernel": jnp.asarray(weights["lm_head.weight"].T),
            "bias": jnp.asarray(weights["lm_head.bias"]),
        },
    }


def _norm(weights, name):
    return {
        "scale": jnp.asarray(weights[f"{name}.weight"]),
        "bias": jnp.asarray(weights[f"{name}.bias"]),
    }


def _llama_tree(config, weights):
    def layer(index):
        block = f"model.layers.{index}"

        def kernel(name):
            return {"kernel": weights[f"{block}.{name}.weight"].T}

        names = {"query": "q", "key": "k", "value": "v", "out": "o"}
        return {
            "attention_norm": {"scale": weights[f"{block}.input_layernorm.weight"]},
            "mlp_norm": {"scale": weights[f"{block}.post_attention_layernorm.weight"]},
            "attention": {k: kernel(f"self_attn.{v}_proj") for k, v in names.items()},
            "mlp": {
                "wi_0": kernel("mlp.gate_proj"),
                "wi_1": kernel("mlp.up_proj"),
                "wo": kernel("mlp.down_proj"),
            },
        }

    tree = {
        "token_embedder": {"embedding": jnp.asarray(weights["model.embed_tokens.weight"])},
        "layers": _stacked([layer(index) for index in range(config.num_layers)]),
        "final_norm": {"scale": jnp.asarray(weights["model.norm.weight"])},
    }
    if not config.tie_embeddings:
        tree["lm_head"] = {"kernel": jnp.asarray(weights["lm_head.weight"].T)}
    return tree


_TREES = {CodeGenConfig: codegen_tree, LlamaConfig: _llama_tree}
