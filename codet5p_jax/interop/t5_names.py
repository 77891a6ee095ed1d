"""Names of T5's parameters in transformers' T5ForConditionalGeneration."""

from collections.abc import Iterator

from codet5p_jax.interop.names import NameTable, Sizes, TensorName
from codet5p_jax.models.config import T5Config

# Place of each sublayer in a block of transformers, and what it is called there.
_ATTENTION = {
    "encoder": {"attention": "layer.0.SelfAttention"},
    "decoder": {"attention": "layer.0.SelfAttention", "cross_attention": "layer.1.EncDecAttention"},
}
_MLP_LAYER = {"encoder": 1, "decoder": 2}

# Older files hold a table that no version of transformers ever used.
_IGNORED = frozenset({"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"})


def t5_names(config: T5Config) -> NameTable:
    """Returns the names of a T5 of the given config: tied or untied, gated or not.

    Parameters of the projection and of the matching head are not among them: the released
    codet5p-220m and -770m have none, and T5ForConditionalGeneration no place for them.
    """
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    head = () if config.tie_embeddings else (_LM_HEAD,)
    return NameTable(
        names=(_EMBEDDING, *head, *_stack("encoder", config), *_stack("decoder", config)),
        aliases={_EMBEDDING.theirs: (*copies, _LM_HEAD.theirs) if not head else copies},
        ignored=_IGNORED,
    )


def t5_sizes(config: T5Config) -> Sizes:
    """Returns the size of every axis that `t5_names` names."""
    return {
        "vocab": config.vocab_size,
        "padded_vocab": config.padded_vocab_size,
        "embed": config.embed_dim,
        "heads": config.num_heads,
        "joined_kv": config.num_heads * config.head_dim,
        "mlp": config.mlp_dim,
        "relpos_buckets": config.relative_position_buckets,
        "encoder_layers": config.num_encoder_layers,
        "decoder_layers": config.num_decoder_layers,
    }


_EMBEDDING = TensorName(
    ours="token_embedder/embedding", theirs="shared.weight", axes=("vocab", "embed")
)
_LM_HEAD = TensorName(
    ours="lm_head/kernel", theirs="lm_head.weight", axes=("embed", "vocab"), transposed=True
)


def _stack(stack: str, config: T5Config) -> Iterator[TensorName]:
    yield TensorName(
        ours=f"{stack}/relative_position_bias/embedding",
        theirs=f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        axes=("relpos_buckets", "heads"),
    )
    for sublayer, place in _ATTENTION[stack].items():
        yield from _attention(stack, sublayer, place)
    yield from _mlp(stack, config)
    yield TensorName(
        ours=f"{stack}/final_norm/scale",
        theirs=f"{stack}.final_layer_norm.weight",
        axes=("embed",),
    )


def _attention(stack: str, sublayer: str, place: str) -> Iterator[TensorName]:
    yield _norm(stack, f"{sublayer}_norm", place.rpartition(".")[0])
    for projection, letter in {"query": "q", "key": "k", "value": "v", "out": "o"}.items():
        axes = ("joined_kv", "embed") if projection == "out" else ("embed", "joined_kv")
        yield _kernel(stack, f"{sublayer}/{projection}", f"{place}.{letter}", axes)


def _mlp(stack: str, config: T5Config) -> Iterator[TensorName]:
    layer = f"layer.{_MLP_LAYER[stack]}"
    yield _norm(stack, "mlp_norm", layer)
    for name in ("wi_0", "wi_1") if config.gated_mlp else ("wi",):
        yield _kernel(stack, f"mlp/{name}", f"{layer}.DenseReluDense.{name}", ("embed", "mlp"))
    yield _kernel(stack, "mlp/wo", f"{layer}.DenseReluDense.wo", ("mlp", "embed"))


def _norm(stack: str, ours: str, layer: str) -> TensorName:
    return TensorName(
        ours=f"{stack}/layers/{ours}/scale",
        theirs=f"{stack}.block.{{layer}}.{layer}.layer_norm.weight",
        axes=(f"{stack}_layers", "embed"),
    )


def _kernel(stack: str, ours: str, theirs: str, axes: tuple[str, str]) -> TensorName:
    return TensorName(
        ours=f"{stack}/layers/{ours}/kernel",
        theirs=f"{stack}.block.{{layer}}.{theirs}.weight",
        axes=(f"{stack}_layers", *axes),
        transposed=True,
    )
