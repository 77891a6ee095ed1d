"""Names of a T5's parameters in transformers, and of the two heads of CodeT5+."""

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


def t5_names(
    config: T5Config,
    *,
    decoder: bool = True,
    projection: bool = False,
    matching_head: bool = False,
) -> NameTable:
    """Returns the names of a T5 of the given config: tied or untied, gated or not.

    Args:
        config: Config of the model.
        decoder: Whether the format holds the decoder and its head.
        projection: Whether it holds the projection; T5ForConditionalGeneration does not.
        matching_head: Whether it holds the matching head.
    """
    stacks = ("encoder", "decoder") if decoder else ("encoder",)
    head = (_LM_HEAD,) if decoder and not config.tie_embeddings else ()
    tied_head = (_LM_HEAD.theirs,) if decoder and config.tie_embeddings else ()
    return NameTable(
        names=(
            _EMBEDDING,
            *head,
            *(row for stack in stacks for row in _stack(stack, config)),
            *(_dense("projection", "proj", "projection") if projection else ()),
            *(_dense("matching_head", "itm_head", "classes") if matching_head else ()),
        ),
        aliases={
            _EMBEDDING.theirs: (*(f"{stack}.embed_tokens.weight" for stack in stacks), *tied_head)
        },
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
        "projection": config.projection_dim or 0,
        "classes": 2,
    }


_EMBEDDING = TensorName(
    ours="token_embedder/embedding", theirs="shared.weight", axes=("vocab", "embed")
)
_LM_HEAD = TensorName(
    ours="lm_head/kernel", theirs="lm_head.weight", axes=("embed", "vocab"), transposed=True
)


def _dense(ours: str, theirs: str, outputs: str) -> tuple[TensorName, TensorName]:
    """Names of a head that reads the final states."""
    return (
        TensorName(
            ours=f"{ours}/kernel",
            theirs=f"{theirs}.weight",
            axes=("embed", outputs),
            transposed=True,
        ),
        TensorName(ours=f"{ours}/bias", theirs=f"{theirs}.bias", axes=(outputs,)),
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
