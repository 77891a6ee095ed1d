"""Attention as one kernel for TPUs, with T5's position bias and its gradient.

`fused_attention` is what `xla_attention` computes; the passes are in attention_passes.py.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from codet5p_jax.kernels.attention_blocks import Blocks, blocks_of
from codet5p_jax.kernels.attention_call import attend
from codet5p_jax.kernels.attention_mask import AttentionMask
from codet5p_jax.kernels.per_device import divisors, knows_devices, per_device
from codet5p_jax.kernels.platform import platform, vmem_bytes
from codet5p_jax.kernels.position_bias import PositionBias
from codet5p_jax.kernels.xla_attention import SpreadBias, xla_attention

DTYPES = (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32))
_AXES = ("batch", "length", "heads", "kv")
_INDEPENDENT = ("batch", "heads")  # axes along which devices need nothing of each other
_AXES_OF_MARKS = {
    "key_segments": ("batch", "length"),
    "query_segments": ("batch", "length"),
    "kept": ("batch", "heads", "length"),
}


class UnservedAttentionError(ValueError):
    """The kernel does not compute such attention."""


def fused_attention(
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys heads head_dim"],
    value: Float[Array, "batch keys heads head_dim"],
    *,
    mask: AttentionMask,
    bias: PositionBias | SpreadBias | None = None,
    scale: float | None = None,
    keep: Bool[Array, "batch heads keys"] | None = None,
    dropout_rate: float = 0.0,
    fallback: bool = False,
) -> Float[Array, "batch queries heads head_dim"]:
    """Returns ``softmax(scale * query key^T + bias + mask) drop(value)``, in one kernel.

    Scores and softmax are float32 whatever the dtype of the inputs. Off TPUs the kernel is
    interpreted: slow, and good for tests alone.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        mask: Who sees whom.
        bias: Bias by relative position, of self-attention; one that is spread is not served.
        scale: What scores are multiplied with; None: nothing.
        keep: Keys that all queries of a row keep, by head; None: all, and the rate is not used.
        dropout_rate: Probability of dropping a key.
        fallback: Whether to compute with `xla_attention`, and warn of it, what the kernel does not
            serve.

    Raises:
        UnservedAttentionError: The kernel does not serve it, and there is no fallback.
        ValueError: The shapes of what is given do not fit each other.
    """
    unserved = _unserved(query, key, value, mask=mask, bias=bias)
    if unserved and not fallback:
        raise UnservedAttentionError(
            f"fused_attention {unserved}. Compute it with xla_attention: by fallback=True, or in a "
            "run by the default attention (dot_product_attention) or --gin_file=attention/xla.gin."
        )
    if unserved:
        warnings.warn(f"fused_attention {unserved}: xla_attention computes it.", stacklevel=2)
        return xla_attention(
            query,
            key,
            value,
            mask=mask,
            bias=bias,
            scale=scale,
            keep=keep,
            dropout_rate=dropout_rate,
        )
    assert bias is None or isinstance(bias, PositionBias)  # others are not served
    _check_shapes(query, key, value, mask=mask, bias=bias, keep=keep)
    marks = _marks(mask, keep)
    scale = None if scale is None else float(scale)
    keep_scale = None if keep is None else 1 / (1 - float(dropout_rate))

    def local(query, key, value, table, marks):
        blocks = _blocks(query, key, mask=mask, bias=bias, scale=scale, keep_scale=keep_scale)
        of_device = None if bias is None else bias.replace(table=table)
        return _local_attention(blocks, query, key, value, of_device, marks)

    return per_device(
        local,
        (query, key, value, None if bias is None else bias.table, marks),
        (
            *[_AXES] * 3,
            None if bias is None else ("relpos_buckets", "heads"),
            {name: _AXES_OF_MARKS[name] for name in marks},
        ),
        _AXES,
    )


fused_attention.spreads_bias = lambda: True  # type: ignore[attr-defined]  # in the kernel


def _unserved(query, key, value, *, mask, bias) -> str:
    """Returns what of it the kernel does not serve; empty where it serves all."""
    dtypes = {jnp.dtype(x.dtype) for x in (query, key, value)}
    if len(dtypes) > 1 or not dtypes <= set(DTYPES):
        given = ", ".join(sorted(map(str, dtypes)))
        return f"computes in bfloat16 or float32, of query, key and value alike; got {given}"
    queries, keys = query.shape[1], key.shape[1]
    if 0 in (*query.shape, keys):
        return f"takes at least one of all; got queries {query.shape} and {keys} keys"
    if (mask.causal or bias is not None) and queries != keys:
        what = "a causal mask" if mask.causal else "a position bias"
        return f"takes {what} for as many queries as keys; got {queries} queries, {keys} keys"
    if bias is not None and not isinstance(bias, PositionBias):
        return f"takes a bias as PositionBias, not spread; got an array of {bias.shape}"
    offsets = {"mask": mask.query_offset, "bias": bias.query_offset if bias else None}
    for what, offset in offsets.items():
        if offset is not None:
            return f"takes queries that begin where the keys do; got the {what}'s offset {offset}"
    if platform() == "tpu" and not knows_devices():
        count = jax.device_count()
        return f"takes a mesh in force (jax.set_mesh), or one device; got {count} without a mesh"
    split = divisors(_AXES)
    for name, size, parts in zip(_AXES, query.shape, split, strict=True):
        if parts > 1 and name not in _INDEPENDENT:
            return f"takes the axis {name} whole; got a mesh that splits it over {parts} devices"
        if size % parts:
            return f"takes {name} that the mesh divides; got {size} over {parts} devices"
    query, key = (_of_device(x, split) for x in (query, key))
    blocks = _blocks(query, key, mask=mask, bias=bias)
    needed, there = blocks.vmem_bytes(query.dtype.itemsize), vmem_bytes()
    if needed > there:
        return (
            f"keeps all keys of a row in VMEM; {keys:,} keys of {blocks.heads} heads of "
            f"{blocks.head_dim} need {needed / 2**20:.0f} MiB of {there / 2**20:.0f}"
        )
    return ""


def _check_shapes(query, key, value, *, mask, bias, keep) -> None:
    """Raises ValueError where the kernel would read what is not there."""
    batch, queries, heads, head_dim = query.shape
    keys = key.shape[1]
    shapes = {
        "key": (key, (batch, keys, heads, head_dim)),
        "value": (value, (batch, keys, heads, head_dim)),
        "mask.key_segments": (mask.key_segments, (batch, keys)),
        "mask.query_segments": (mask.query_segments, (batch, queries)),
        "keep": (keep, (batch, heads, keys)),
        "bias.table": (bias and bias.table, (bias and bias.table.shape[0], heads)),
    }
    for name, (array, expected) in shapes.items():
        if array is not None and array.shape != expected:
            raise ValueError(
                f"fused_attention: {name} has shape {array.shape}; queries of {query.shape} and "
                f"{keys} keys need {expected}. Repeat or pad it before."
            )


def _of_device(x: jax.Array, split: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """Returns the shape of what one device holds of an array whose axes are split so often."""
    shape = [size // parts for size, parts in zip(x.shape, split, strict=True)]
    return jax.ShapeDtypeStruct(shape, x.dtype)


def _marks(mask: AttentionMask, keep: jax.Array | None) -> dict[str, jax.Array]:
    """Returns what decides who sees whom, and which keys stay: integers, [batch, ..., length]."""
    marks = {}
    if mask.key_segments is not None:
        marks["key_segments"] = mask.key_segments
        if mask.query_segments is not None:
            marks["query_segments"] = mask.query_segments
    if keep is not None:
        marks["kept"] = keep
    return {name: jnp.asarray(ids, jnp.int32) for name, ids in marks.items()}


def _blocks(
    query: jax.Array | jax.ShapeDtypeStruct,
    key: jax.Array | jax.ShapeDtypeStruct,
    *,
    mask: AttentionMask,
    bias: PositionBias | None,
    scale: float | None = None,
    keep_scale: float | None = None,
) -> Blocks:
    by_segment = mask.query_segments is not None and mask.key_segments is not None
    return blocks_of(
        num_heads=query.shape[2],
        head_dim=query.shape[3],
        queries=query.shape[1],
        keys=key.shape[1],
        itemsize=query.dtype.itemsize,
        vmem_bytes=vmem_bytes(),
        max_distance=None if bias is None else bias.max_distance,
        causal=mask.causal,
        scale=scale,
        by_segment=by_segment,
        by_key=not by_segment and mask.key_segments is not None,
        keep_scale=keep_scale,
    )


def _local_attention(
    blocks: Blocks,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: PositionBias | None,
    marks: dict[str, jax.Array],
) -> jax.Array:
    """Computes what lies on one device."""
    batch, queries, _, _ = query.shape
    keys = key.shape[1]
    if blocks.by_key and "key_segments" not in marks:
        marks = marks | {"key_segments": jnp.ones([batch, keys], jnp.int32)}
    out = attend(
        blocks,
        platform() != "tpu",
        _filled_up(query.reshape(batch, queries, -1), blocks.queries),
        _filled_up(key.reshape(batch, keys, -1), blocks.keys),
        _filled_up(value.reshape(batch, keys, -1), blocks.keys),
        None if bias is None else _tile_values(bias, blocks),
        _filled_up_marks(marks, blocks),
    )
    return out[:, :queries].reshape(query.shape)


def _filled_up_marks(marks: dict[str, jax.Array], blocks: Blocks) -> dict[str, jax.Array]:
    """Returns what `attend` takes: keys that fill up belong to no query, where it looks."""
    filled = {}
    if "key_segments" in marks:
        nobodys = np.iinfo(np.int32).min if blocks.by_segment else 0
        filled["key_segments"] = _filled_up(marks["key_segments"], blocks.keys, nobodys)[:, None]
    if "query_segments" in marks:
        filled["query_segments"] = _filled_up(marks["query_segments"], blocks.queries)[:, None]
    if "kept" in marks:
        kept = marks["kept"].reshape(-1, marks["kept"].shape[-1])
        grouped = (-1, blocks.num_heads // blocks.heads, blocks.heads, blocks.keys)
        filled["kept"] = _filled_up(kept, blocks.keys).reshape(grouped)
    return filled


def _tile_values(
    bias: PositionBias, blocks: Blocks
) -> Float[Array, "groups tiles heads_of_group values"]:
    assert blocks.tiles  # there is a bias
    values = bias.at(blocks.tiles.offsets())
    return jnp.swapaxes(values.reshape(-1, blocks.heads, *values.shape[1:]), 1, 2)


def _filled_up(x: jax.Array, length: int, value: int = 0) -> jax.Array:
    """Returns `x` [batch, n, ...] made `length` long with `value`."""
    missing = [(0, length - x.shape[1] if axis == 1 else 0) for axis in range(x.ndim)]
    return jnp.pad(x, missing, constant_values=value)
