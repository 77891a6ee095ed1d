"""Names of Llama's parameters in transformers. Its pairs turn as ours do: nothing is reordered."""

from collections.abc import Iterator

from codet5p_jax.interop.names import NameTable, TensorName
from codet5p_jax.models.llama import LlamaConfig

# Parameter of ours -> module of theirs, and names of the axes.
_KERNELS = {
    "attention/query": ("self_attn.q_proj", ("embed", "joined_q")),
    "attention/key": ("self_attn.k_proj", ("embed", "joined_kv")),
    "attention/value": ("self_attn.v_proj", ("embed", "joined_kv")),
    "attention/out": ("self_attn.o_proj", ("joined_q", "embed")),
    "mlp/wi_0": ("mlp.gate_proj", ("embed", "mlp")),
    "mlp/wi_1": ("mlp.up_proj", ("embed", "mlp")),
    "mlp/wo": ("mlp.down_proj", ("mlp", "embed")),
}
_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
_IGNORED = frozenset({"model.layers.*.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"})
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


def llama_names(side: str, config: LlamaConfig, cross_attention_layers: int = 0) -> NameTable:
    """Returns the names of a LlamaForCausalLM that becomes one side; see `codegen_names`."""
    embed = f"{side}_embed"
    embedding = TensorName(
        ours=f"{side}/token_embedder/embedding", theirs=_EMBEDDING, axes=("vocab", embed)
    )
    norm = TensorName(ours=f"{side}/final_norm/scale", theirs="model.norm.weight", axes=(embed,))
    head = TensorName(
        ours=f"{side}/lm_head/kernel", theirs=_HEAD, axes=(embed, "vocab"), transposed=True
    )
    lower = config.num_layers - cross_attention_layers
    stack = (
        embedding,
        *(_layers(side, "layers", 0) if lower else ()),
        *(_layers(side, "cross_layers", lower) if cross_attention_layers else ()),
        norm,
    )
    if config.tie_embeddings:
        return NameTable(names=stack, aliases={_EMBEDDING: (_HEAD,)}, ignored=_IGNORED)
    if side == "encoder":
        return NameTable(names=stack, ignored=_IGNORED | {_HEAD})
    return NameTable(names=(*stack, head), ignored=_IGNORED)


def _layers(side: str, ours: str, first_layer: int) -> Iterator[TensorName]:
    block = "model.layers.{layer}"
    for name, (theirs, axes) in _KERNELS.items():
        yield TensorName(
            ours=f"{side}/{ours}/{name}/kernel",
            theirs=f"{block}.{theirs}.weight",
            axes=(f"{side}_{ours}", *(f"{side}_{axis}" for axis in axes)),
            transposed=True,
            first_layer=first_layer,
        )
    for name, theirs in _NORMS.items():
        yield TensorName(
            ours=f"{side}/{ours}/{name}/scale",
            theirs=f"{block}.{theirs}.weight",
            axes=(f"{side}_{ours}", f"{side}_embed"),
            first_layer=first_layer,
        )
