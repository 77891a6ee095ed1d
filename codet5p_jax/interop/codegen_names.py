"""Names of CodeGen's parameters: alone as in transformers, and as halves of the released CodeT5+.

Their fused projections are laid out for the four TPU cores that CodeGen was trained on: the outputs
are 4 groups of heads, each group first its queries, then values, then keys (cross-attention:
values, then keys). Pairs of numbers that turn together are neighbours there and half the rotary
dimensions apart here (models/rotary.py).
"""

from collections.abc import Iterator

import numpy as np

from codet5p_jax.interop.axis_sizes import decoder_only_sizes
from codet5p_jax.interop.names import NameTable, Sizes, TensorName
from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig

GROUPS = 4  # of heads in a fused projection

_SELF_ATTENTION = {"attn.qkv_proj": ("query", "value", "key")}
_CROSS_ATTENTION = {
    "crossattention.q_attn": ("query",),
    "crossattention.qkv_proj": ("value", "key"),
}
_ATTENTIONS = (("attention", _SELF_ATTENTION), ("cross_attention", _CROSS_ATTENTION))
# Buffers that old files hold: causal masks, and the number that masked scores had.
_IGNORED = frozenset({"*attn.causal_mask", "*attn.masked_bias", "*attn.bias"})


def codet5p_names(config: EncoderDecoderConfig) -> NameTable:
    """Returns the names of a CodeT5+ both of whose halves are CodeGens, as released."""
    encoder, decoder = _halves(config)
    return NameTable(
        names=(
            *_stack("encoder", "encoder.", encoder),
            *_stack("decoder", "decoder.transformer.", decoder, config.cross_attention_layers),
            *_head("decoder", "decoder.lm_head"),
            *(_between() if config.projects_encoded else ()),
        ),
        ignored=_IGNORED,
    )


def codet5p_sizes(config: EncoderDecoderConfig) -> Sizes:
    """Returns the size of every axis that `codet5p_names` names."""
    encoder, decoder = _halves(config)
    return {
        "vocab": config.vocab_size,
        "padded_vocab": config.padded_vocab_size,
        **decoder_only_sizes("encoder", encoder),
        **decoder_only_sizes("decoder", decoder, config.cross_attention_layers),
    }


def codegen_names(side: str, config: CodeGenConfig, cross_attention_layers: int = 0) -> NameTable:
    """Returns the names of a CodeGenForCausalLM that becomes one side of a CodeT5+.

    Args:
        side: "encoder", which has no head, or "decoder".
        config: Shape of the CodeGen.
        cross_attention_layers: Layers, from the top, that lie among ours with cross-attention.
    """
    stack = tuple(_stack(side, "transformer.", config, cross_attention_layers, crosses=False))
    if side == "encoder":
        return NameTable(names=stack, ignored=_IGNORED | {"lm_head.*"})
    return NameTable(names=(*stack, *_head(side, "lm_head")), ignored=_IGNORED)


def fused_rows(part: int, parts: int, config: CodeGenConfig, *, turned: bool) -> np.ndarray:
    """Returns, for each output of a projection of ours, its row in their fused projection.

    Args:
        part: Place of the projection among those that are fused.
        parts: How many are.
        config: Shape of the CodeGen.
        turned: Whether its numbers turn with the position, as queries and keys do.
    """
    heads, head_dim, rotary = config.num_heads, config.head_dim, config.rotary_dim
    numbers = np.arange(head_dim)
    if turned:
        pairs = np.arange(0, rotary, 2)
        numbers = np.concatenate([pairs, pairs + 1, numbers[rotary:]])
    group, head = np.divmod(np.arange(heads), heads // GROUPS)
    first = ((group * parts + part) * (heads // GROUPS) + head) * head_dim
    return (first[:, None] + numbers).reshape(-1)


def _halves(config: EncoderDecoderConfig) -> tuple[CodeGenConfig, CodeGenConfig]:
    encoder, decoder = config.encoder, config.decoder
    assert isinstance(encoder, CodeGenConfig) and isinstance(decoder, CodeGenConfig)
    return encoder, decoder


def _stack(
    side: str,
    theirs: str,
    config: CodeGenConfig,
    cross_attention_layers: int = 0,
    *,
    crosses: bool = True,
) -> Iterator[TensorName]:
    yield TensorName(
        ours=f"{side}/token_embedder/embedding",
        theirs=f"{theirs}wte.weight",
        axes=("vocab", f"{side}_embed"),
    )
    lower = config.num_layers - cross_attention_layers
    if lower:
        yield from _layers(side, "layers", theirs, config)
    if cross_attention_layers:
        yield from _layers(side, "cross_layers", theirs, config, first_layer=lower, crosses=crosses)
    yield from _norm(f"{side}/final_norm", f"{theirs}ln_f", (f"{side}_embed",))


def _layers(
    side: str,
    ours: str,
    theirs: str,
    config: CodeGenConfig,
    *,
    first_layer: int = 0,
    crosses: bool = False,
) -> Iterator[TensorName]:
    layers = (f"{side}_{ours}",)
    ours, theirs = f"{side}/{ours}", f"{theirs}h.{{layer}}"
    embed, joined, mlp = f"{side}_embed", f"{side}_joined_kv", f"{side}_mlp"
    yield from _norm(f"{ours}/norm", f"{theirs}.ln_1", (*layers, embed), first_layer)
    for name, fused in _ATTENTIONS[: 1 + crosses]:
        for tensor, parts in fused.items():
            for place, part in enumerate(parts):
                yield TensorName(
                    ours=f"{ours}/{name}/{part}/kernel",
                    theirs=f"{theirs}.{tensor}.weight",
                    axes=(*layers, embed, joined),
                    transposed=True,
                    first_layer=first_layer,
                    rows=fused_rows(place, len(parts), config, turned=part != "value"),
                )
        out = "attn" if name == "attention" else "crossattention"
        yield TensorName(
            ours=f"{ours}/{name}/out/kernel",
            theirs=f"{theirs}.{out}.out_proj.weight",
            axes=(*layers, joined, embed),
            transposed=True,
            first_layer=first_layer,
        )
    for name, their_name, axes in (("wi", "fc_in", (embed, mlp)), ("wo", "fc_out", (mlp, embed))):
        yield from _linear(
            f"{ours}/mlp/{name}", f"{theirs}.mlp.{their_name}", (*layers, *axes), first_layer
        )


def _head(side: str, theirs: str) -> Iterator[TensorName]:
    return _linear(f"{side}/lm_head", theirs, (f"{side}_embed", "vocab"))


def _between() -> Iterator[TensorName]:
    return _linear("encoder_to_decoder", "enc_to_dec_proj", ("encoder_embed", "decoder_embed"))


def _linear(
    ours: str, theirs: str, axes: tuple[str, ...], first_layer: int = 0
) -> Iterator[TensorName]:
    yield TensorName(
        ours=f"{ours}/kernel",
        theirs=f"{theirs}.weight",
        axes=axes,
        transposed=True,
        first_layer=first_layer,
    )
    yield TensorName(
        ours=f"{ours}/bias",
        theirs=f"{theirs}.bias",
        axes=(*axes[:-2], axes[-1]),
        first_layer=first_layer,
    )


def _norm(
    ours: str, theirs: str, axes: tuple[str, ...], first_layer: int = 0
) -> Iterator[TensorName]:
    for name, their_name in (("scale", "weight"), ("bias", "bias")):
        yield TensorName(
            ours=f"{ours}/{name}",
            theirs=f"{theirs}.{their_name}",
            axes=axes,
            first_layer=first_layer,
        )
