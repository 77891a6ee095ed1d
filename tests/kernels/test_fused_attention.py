"""The kernel, interpreted, against the formula in numpy's float64 and JAX's derivative of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codet5p_jax.kernels import attention_blocks
from codet5p_jax.kernels import fused_attention as module
from codet5p_jax.kernels.attention_blocks import blocks_of
from codet5p_jax.kernels.attention_mask import AttentionMask
from codet5p_jax.kernels.fused_attention import UnservedAttentionError, fused_attention
from codet5p_jax.kernels.position_bias import PositionBias
from codet5p_jax.kernels.xla_attention import xla_attention

BUCKETS = 8
RULES = [
    ("batch", "data"),
    ("heads", "model"),
    *((n, None) for n in ("length", "kv", "relpos_buckets")),
]


@dataclasses.dataclass(frozen=True)
class Case:
    """Attention to be computed."""

    heads: int = 2
    head_dim: int = 16
    queries: int = 40
    keys: int = 40
    max_distance: int | None = 12
    bidirectional: bool = True
    causal: bool = False
    segments: str = "none"
    scale: float | None = None
    dropout_rate: float = 0.0
    batch: int = 2

    def shapes(self, dtype):
        """Returns query, key and value without numbers."""
        lengths = (self.queries, self.keys, self.keys)
        shapes = ((self.batch, length, self.heads, self.head_dim) for length in lengths)
        return [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]

    def inputs(self, seed=0):
        """Returns query, key, value, table and weights of the outputs, float64."""
        draw = np.random.default_rng(seed).normal
        qkv = [x.shape for x in self.shapes("float64")]
        sizes = (*qkv, (BUCKETS, self.heads), qkv[0])
        return [draw(0, self.head_dim**-0.25 if len(s) > 2 else 1, s) for s in sizes]

    def mask(self, seed=0):
        """Returns the mask: three segments to a row, the last of them padding, or one."""
        draw = np.random.default_rng(seed)

        def ids(length):
            return np.sort(draw.integers(0, 3, (self.batch, length)), axis=1)[:, ::-1].astype("i4")

        keys = ids(self.keys)
        if self.segments == "none":
            return AttentionMask(causal=self.causal)
        if self.segments == "keys":
            return AttentionMask(key_segments=keys, causal=self.causal)
        queries = keys if self.queries == self.keys else ids(self.queries)
        return AttentionMask(key_segments=keys, query_segments=queries, causal=self.causal)

    def keep(self, seed=0):
        """Returns which keys stay; None without dropout."""
        if not self.dropout_rate:
            return None
        drawn = np.random.default_rng(seed).random((self.batch, self.heads, self.keys))
        return jnp.asarray(drawn >= self.dropout_rate)

    def bias(self, table):
        """Returns the bias of a table; None without one."""
        if self.max_distance is None:
            return None
        return PositionBias(
            table=table, bidirectional=self.bidirectional, max_distance=self.max_distance
        )

    def formula(self, query, key, value, table):
        """Returns softmax(scale * query key^T + bias + mask) value, in the dtype given."""
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * (self.scale or 1.0)
        offsets = np.arange(self.keys)[None] - np.arange(self.queries)[:, None]
        if self.max_distance is not None:
            spread = table[self.bias(table).buckets(jnp.asarray(offsets))]
            scores = scores + jnp.moveaxis(spread, -1, 0)[None]
        scores = scores + jnp.asarray(self._hidden(offsets), scores.dtype)
        weights = jax.nn.softmax(scores)
        if self.dropout_rate:
            weights = weights * self.keep()[:, :, None] / (1 - self.dropout_rate)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value)

    def _hidden(self, offsets):
        mask, hidden = self.mask(), np.zeros((self.batch, 1, self.queries, self.keys))
        if self.causal:
            hidden = hidden - 1e9 * (offsets > 0)[None, None]
        if self.segments == "keys":
            hidden = hidden - 1e9 * (np.asarray(mask.key_segments) == 0)[:, None, None]
        if self.segments == "both":
            keys, queries = mask.key_segments[:, None], mask.query_segments[:, :, None]
            hidden = hidden - 1e9 * (keys != queries)[:, None]
        return hidden


def _out_and_gradients(attend, inputs, dtype):
    """Returns output and gradients by query, key, value and table, of a weighted sum."""
    *qkv, table, weights = inputs
    table_dtype = "float64" if dtype == "float64" else "float32"

    def weighted(query, key, value, table):
        out = attend(query, key, value, table)
        return jnp.sum(out.astype(table_dtype) * jnp.asarray(weights, table_dtype)), out

    arguments = (*(jnp.asarray(x, dtype) for x in qkv), jnp.asarray(table, table_dtype))
    compute = jax.jit(jax.grad(weighted, argnums=(0, 1, 2, 3), has_aux=True))
    gradients, out = compute(*arguments)
    return [np.asarray(x, np.float64) for x in (out, *gradients)]


def _exact(case, inputs):
    with jax.enable_x64(True):
        return _out_and_gradients(case.formula, inputs, "float64")


def _by(attention, case):
    def attend(query, key, value, table):
        return attention(
            query,
            key,
            value,
            mask=case.mask(),
            bias=case.bias(table),
            scale=case.scale,
            keep=case.keep(),
            dropout_rate=case.dropout_rate,
        )

    return attend


def _assert_exact(case):
    inputs = case.inputs()
    ours = _out_and_gradients(_by(fused_attention, case), inputs, "float32")
    for a, b in zip(ours, _exact(case, inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(b).max()))


LONG = {"queries": 300, "keys": 300, "batch": 1}


QUICK = [
    Case(segments="keys", dropout_rate=0.25),
    Case(segments="both", causal=True, bidirectional=False, **LONG),
    Case(max_distance=None, queries=40, keys=150, segments="both"),
]
SLOW = [
    Case(causal=True, bidirectional=False),
    Case(segments="both", dropout_rate=0.25, **LONG),
    Case(max_distance=None, queries=150, keys=40, segments="keys"),
    Case(heads=8, head_dim=80, max_distance=None, causal=True, scale=80**-0.5, batch=1),
    Case(heads=1, head_dim=256, max_distance=None, causal=True, scale=256**-0.5, batch=1),
    Case(heads=2, head_dim=128, segments="keys", batch=1),
    Case(heads=6, head_dim=64, segments="keys", batch=1),
    Case(max_distance=400, **LONG),  # no value is shared by far distances
]


@pytest.mark.parametrize(
    "case", [*QUICK, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW)], ids=str
)
def test_output_and_gradients_equal_the_formula(case, monkeypatch):
    monkeypatch.setattr(attention_blocks, "LONGEST_BLOCKS", (128,))  # several of what is quick
    _assert_exact(case)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    heads=st.integers(1, 3),
    head_dim=st.sampled_from([1, 8, 24, 64]),
    queries=st.integers(1, 140),
    keys=st.integers(1, 140),
    bias=st.booleans(),
    causal=st.booleans(),
    segments=st.sampled_from(["none", "keys", "both"]),
    scale=st.sampled_from([None, 0.5]),
    dropout_rate=st.sampled_from([0.0, 0.5]),
)
def test_any_shape_equals_the_formula(bias, causal, queries, keys, **fields):
    _assert_exact(
        Case(
            max_distance=12 if bias else None,
            bidirectional=not causal,
            causal=causal,
            queries=queries,
            keys=queries if bias or causal else keys,
            batch=1,
            **fields,
        )
    )


@pytest.mark.slow
def test_bfloat16_is_as_near_to_float64_as_xla_comes():
    """Root mean squares over four seeds; of one the table's gradient, 16 sums, says too little."""
    case = Case(heads=2, head_dim=64, queries=256, keys=256, segments="keys")
    squares = {fused_attention: np.zeros(5), xla_attention: np.zeros(5)}
    for seed in range(4):
        inputs = [np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64) for x in case.inputs(seed)]
        exact = _exact(case, inputs)
        for attention, total in squares.items():
            found = _out_and_gradients(_by(attention, case), inputs, "bfloat16")
            pairs = zip(found, exact, strict=True)
            total += [np.sum((a - b) ** 2) / np.sum(b**2) for a, b in pairs]
    ours, xla = (np.sqrt(squares[attention]) for attention in (fused_attention, xla_attention))
    assert (ours <= 1.5 * xla).all(), (ours, xla)


@pytest.mark.slow
def test_a_row_of_nothing_but_padding_has_no_nan():
    case = Case()
    *qkv, table, _ = (jnp.asarray(x, jnp.float32) for x in case.inputs())
    mask = AttentionMask(key_segments=jnp.zeros([2, 40], jnp.int32))

    def total(table):
        return jnp.sum(fused_attention(*qkv, mask=mask, bias=case.bias(table)))

    assert np.isfinite(jax.grad(total)(table)).all()


@pytest.mark.slow
def test_on_a_mesh_each_device_computes_its_rows_and_heads():
    case = Case(heads=4, batch=4, segments="keys", dropout_rate=0.25)
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    inputs = case.inputs()
    alone = _out_and_gradients(_by(fused_attention, case), inputs, "float32")
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
        shared = _out_and_gradients(_by(fused_attention, case), inputs, "float32")
    for a, b in zip(shared, alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # the table's sum in parts


@pytest.mark.parametrize(
    ("changes", "fields", "message"),
    [
        ({}, {"dtype": "float16"}, "bfloat16 or float32.*; got float16"),
        ({"causal": True, "max_distance": None, "queries": 3}, {}, "causal mask .*3 queries, 40"),
        ({"queries": 3}, {}, "position bias .*3 queries, 40 keys"),
        ({"batch": 0}, {}, r"at least one of all; got queries \(0, 40, 2, 16\)"),
        ({}, {"query_offset": 4}, "begin where the keys do; got the mask's offset 4"),
        ({"queries": 40_000, "keys": 40_000, "head_dim": 64, "batch": 1}, {}, "40,000 keys of 2"),
    ],
)
def test_what_the_kernel_does_not_serve_is_an_error_with_a_way_out(changes, fields, message):
    case = dataclasses.replace(Case(), **changes)
    table = jnp.zeros([BUCKETS, case.heads])
    _assert_unserved(case, case.bias(table), message, **fields)


def test_a_spread_bias_is_unserved():
    case = Case()
    bias = case.bias(jnp.zeros([BUCKETS, 2])).matrix(40, 40)
    _assert_unserved(case, bias, r"bias as PositionBias, not spread; got .*\(1, 2, 40, 40\)")


def test_dtypes_that_differ_are_unserved():
    query = jnp.zeros([1, 4, 1, 8], jnp.bfloat16)
    other = query.astype(jnp.float32)
    with pytest.raises(UnservedAttentionError, match="value alike; got bfloat16, float32"):
        fused_attention(query, other, other, mask=AttentionMask())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 3}, "takes batch that the mesh divides; got 3 over 2 devices"),
        ({"heads": 3, "batch": 2}, "takes heads that the mesh divides; got 3 over 2 devices"),
    ],
)
def test_what_the_mesh_does_not_divide_is_unserved(changes, message):
    case = Case(max_distance=None, **changes)
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
        _assert_unserved(case, None, message)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"key": (2, 40, 1, 16)}, r"key has shape \(2, 40, 1, 16\); .* need \(2, 40, 2, 16\)"),
        ({"value": (2, 30, 2, 16)}, "value has shape"),
        ({"key_segments": (2, 30)}, r"mask.key_segments has shape \(2, 30\); .* need \(2, 40\)"),
        ({"query_segments": (1, 40)}, "mask.query_segments has shape"),
        ({"keep": (2, 40, 2)}, r"keep has shape \(2, 40, 2\); .* need \(2, 2, 40\)"),
        ({"table": (BUCKETS, 3)}, r"bias.table has shape \(8, 3\); .* need \(8, 2\)"),
    ],
)
def test_shapes_that_do_not_fit_are_an_error(given, message):
    """The function itself, without the checker of annotations that tests run with."""
    qkv = (2, 40, 2, 16)
    query, key, value = (jnp.zeros(given.get(n, qkv)) for n in ("query", "key", "value"))
    segments = ("key_segments", "query_segments")
    ids = {name: jnp.ones(given.get(name, (2, 40)), jnp.int32) for name in segments}
    keep, table = jnp.ones(given.get("keep", (2, 2, 40)), bool), given.get("table", (BUCKETS, 2))
    with pytest.raises(ValueError, match=message):
        module._check_shapes(
            query,
            key,
            value,
            mask=AttentionMask(**ids),
            bias=PositionBias(table=jnp.zeros(table)),
            keep=keep,
        )


def test_a_query_that_sees_no_key_teaches_nothing():
    case = Case(max_distance=None)
    query, key, value = (jnp.asarray(x, jnp.float32) for x in case.inputs()[:3])
    nobodys = jnp.ones([2, 40], jnp.int32).at[:, :3].set(7)
    mask = AttentionMask(key_segments=jnp.ones([2, 40], jnp.int32), query_segments=nobodys)

    def of_three(value):
        return jnp.sum(fused_attention(query, key, value, mask=mask)[:, :3])

    np.testing.assert_array_equal(jax.grad(of_three)(value), 0)


def test_any_segment_id_is_one_of_its_own():
    """Rows are filled up with keys of no segment, whatever ids there are."""
    case = Case(max_distance=None)
    query, key, value = (jnp.asarray(x, jnp.float32) for x in case.inputs()[:3])
    ids = jnp.where(jnp.arange(40) < 15, -1, 2**31 - 1)[None].repeat(2, axis=0)
    mask = AttentionMask(key_segments=ids, query_segments=ids)
    ours, xla = (f(query, key, value, mask=mask) for f in (fused_attention, xla_attention))
    np.testing.assert_allclose(ours, xla, rtol=1e-5, atol=1e-5)


def test_rows_that_a_mesh_cuts_are_unserved():
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh), nn.logical_axis_rules([("length", "model")]):
        message = "takes the axis length whole; got a mesh that splits it over 2 devices"
        _assert_unserved(Case(max_distance=None), None, message)


def test_several_tpus_without_a_mesh_are_unserved(monkeypatch):
    monkeypatch.setattr(module, "platform", lambda: "tpu")
    _assert_unserved(Case(), None, "takes a mesh in force .*, or one device; got 8 without a mesh")


def test_vmem_is_judged_by_the_heads_of_a_device(monkeypatch):
    """Two heads fill the lanes of a program; of the three on each of two devices no two do."""
    case = Case(heads=6, head_dim=64, queries=512, keys=512, max_distance=None)
    monkeypatch.setattr(module, "vmem_bytes", lambda: 5 * 2**20)
    mesh = jax.make_mesh((1, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    shapes = case.shapes("float32")
    jax.eval_shape(lambda q, k, v: fused_attention(q, k, v, mask=case.mask()), *shapes)
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
        _assert_unserved(case, None, "512 keys of 3 heads of 64 need")


def _assert_unserved(case, bias, message, *, dtype="float32", **of_mask):
    shapes = case.shapes(dtype)
    mask = dataclasses.replace(case.mask(), **of_mask)

    def attend(fallback):
        return jax.eval_shape(
            lambda q, k, v: fused_attention(q, k, v, mask=mask, bias=bias, fallback=fallback),
            *shapes,
        )

    with pytest.raises(UnservedAttentionError, match=f"{message}.*xla_attention: by fallback=True"):
        attend(fallback=False)
    with pytest.warns(UserWarning, match=message):
        assert attend(fallback=True).shape == shapes[0].shape


def _blocks(length, *, vmem=128 * 2**20, **fields):
    shape = {"num_heads": 2, "head_dim": 64, "queries": length, "keys": length, "itemsize": 2}
    return blocks_of(**shape, vmem_bytes=vmem, **fields)


@pytest.mark.parametrize(
    ("length", "block", "rounded"),
    [(1, 128, 128), (114, 128, 128), (512, 512, 512), (640, 384, 768), (2048, 512, 2048)],
)
def test_lengths_are_filled_up_as_little_as_whole_blocks_allow(length, block, rounded):
    blocks = _blocks(length)
    assert (blocks.query_block, blocks.queries) == (block, rounded)
    assert blocks.by_key == (rounded > length)


def test_tiles_do_not_grow_with_the_length():
    counts = {
        length: _blocks(length, max_distance=128).tiles.count for length in (512, 1024, 2048, 8192)
    }
    assert counts == {512: 1, 1024: 3, 2048: 5, 8192: 5}


def test_blocks_shrink_where_there_is_little_vmem():
    sizes = [_blocks(2048, max_distance=128, vmem=mib * 2**20).key_block for mib in (64, 16, 1)]
    assert sizes == [512, 256, 128]
