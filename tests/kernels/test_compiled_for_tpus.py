"""The kernel compiled for each generation of TPUs, and what it says that it costs."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

from codet5p_jax.kernels.attention_mask import AttentionMask
from codet5p_jax.kernels.fused_attention import UnservedAttentionError, fused_attention
from codet5p_jax.kernels.position_bias import PositionBias
from codet5p_jax.training.ahead_of_time import topology_devices
from codet5p_jax.training.hlo.custom_calls import cost_estimate
from codet5p_jax.training.hlo.parser import parse
from codet5p_jax.training.program_costs import program_costs

pytestmark = pytest.mark.tpu
SLICES = ("v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Attention to be compiled; four rows, one on each device."""

    heads: int
    head_dim: int
    queries: int = 512
    keys: int = 512
    biased: bool = False
    causal: bool = False
    segments: str = "keys"
    dropped: bool = False
    dtype: str = "bfloat16"

    def array(self, *shape, dtype=None):
        """Returns an array that is split along its first axis."""
        sharding = NamedSharding(jax.sharding.get_mesh(), PartitionSpec("data"))
        return jax.ShapeDtypeStruct((4, *shape), dtype or self.dtype, sharding=sharding)

    def gradients(self, query, key, value, d_out, key_segments, query_segments, keep, table):
        """Returns the gradients, given that of the output."""
        packed = self.segments == "both"
        mask = AttentionMask(
            key_segments=key_segments if self.segments != "none" else None,
            query_segments=query_segments if packed else None,
            causal=self.causal,
        )

        def attend(query, key, value, table):
            bias = PositionBias(table=table) if self.biased else None
            dropped = {"keep": keep, "dropout_rate": 0.1} if self.dropped else {}
            return fused_attention(query, key, value, mask=mask, bias=bias, **dropped)

        return jax.vjp(attend, query, key, value, table)[1](d_out)

    def compiled(self, topology):
        """Returns the gradients' program for the devices of a topology."""
        mesh = jax.make_mesh((4,), ("data",), devices=topology_devices(topology))
        with jax.set_mesh(mesh), nn.logical_axis_rules([("batch", "data")]):
            queries = self.array(self.queries, self.heads, self.head_dim)
            keys = self.array(self.keys, self.heads, self.head_dim)
            segments = [self.array(n, dtype="int32") for n in (self.keys, self.queries)]
            table = jax.ShapeDtypeStruct((32, self.heads), jnp.float32)
            keep = self.array(self.heads, self.keys, dtype="bool")
            arguments = (queries, keys, keys, queries, *segments, keep, table)
            return jax.jit(self.gradients).lower(*arguments).compile()


CASES = [
    Case(heads=12, head_dim=64, biased=True, dropped=True),
    Case(heads=12, head_dim=64, biased=True, causal=True, segments="both", dtype="float32"),
    Case(heads=16, head_dim=64, biased=True, dropped=True, queries=2048, keys=2048),
    Case(heads=12, head_dim=64, dropped=True, queries=114, keys=500),
    Case(heads=32, head_dim=80, causal=True),
    Case(heads=16, head_dim=128, causal=True, segments="both"),
    Case(heads=16, head_dim=256, causal=True, segments="none"),
    Case(heads=3, head_dim=24, biased=True, queries=77, keys=77),
    Case(heads=12, head_dim=64, biased=True, dropped=True, queries=768, keys=768, dtype="float32"),
    Case(heads=8, head_dim=192, causal=True, dtype="float32"),
]


@pytest.mark.parametrize("topology", SLICES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_generation_compiles_it_with_no_array_of_the_size_of_the_scores(topology, case):
    pytest.importorskip("libtpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no fallback
        compiled = case.compiled(topology)
    assert compiled.as_text().count('custom_call_target="tpu_custom_call"') == 2
    # What there is beside the kernels: copies of arguments whose heads do not lie side by side.
    widest = case.heads * max(case.queries, case.keys, 128) * max(case.head_dim, 128)
    itemsize = jnp.dtype(case.dtype).itemsize
    assert compiled.memory_analysis().temp_size_in_bytes <= 10 * itemsize * widest


@pytest.mark.parametrize(
    ("topology", "length"), [("v4:2x2x1", 4096), ("v5p:2x2x1", 16_384), ("v5e:2x2", 32_768)]
)
def test_the_longest_rows_fit_the_vmem_of_each_generation(topology, length):
    pytest.importorskip("libtpu")
    case = Case(heads=2, head_dim=64, biased=True, dropped=True, queries=length, keys=length)
    case.compiled(topology)
    twice = dataclasses.replace(case, queries=2 * length, keys=2 * length)
    with pytest.raises(UnservedAttentionError, match=f"{2 * length:,} keys of 2 heads of 64 need"):
        twice.compiled(topology)


def _estimates(text):
    """Returns what each kernel of a program says of its cost, by its name."""
    module = parse(text)
    calls = module.computations[module.entry].instructions.values()
    said = {call.name.partition(".")[0]: cost_estimate(call) for call in calls}
    return said["forward_pass"], said["backward_pass"]


@pytest.mark.parametrize("causal", [False, True])
def test_kernels_cost_what_counts_by_hand_say(causal):
    """Products of 2 q k d FLOPs; arrays of a device cross HBM once a pass, if they lie there."""
    pytest.importorskip("libtpu")
    case = Case(
        heads=12, head_dim=64, biased=True, causal=causal, queries=1024, keys=1024, segments="none"
    )
    text = case.compiled("v5e:2x2").as_text()
    forward, backward = _estimates(text)
    seen = 3 / 4 if causal else 1  # of four pairs of blocks of 512 one lies ahead
    weights = 12 * 1024 * 1024 * seen
    activation, log_sum, tile = 1024 * 12 * 64 * 2, 12 * 1024 * 4, 12 * 1024 * 4
    tiles = (2 if causal else 3) * tile
    assert forward.flops == 2 * 2 * 64 * weights
    assert backward.flops == 5 * 2 * 64 * weights
    assert forward.transcendentals == backward.transcendentals == weights
    assert forward.bytes_accessed == 4 * activation + log_sum + tiles
    assert backward.bytes_accessed == 8 * activation + log_sum + 2 * tiles
    assert backward.bytes_accessed <= 2.5 * forward.bytes_accessed
    costs = program_costs(text)
    spread = 3 * 2 * 32 * 12 * 3 * 1024  # values of tiles out of the table, twice; its gradient
    assert costs.flops == pytest.approx(forward.flops + backward.flops, abs=spread)
    assert costs.unknown == ()
