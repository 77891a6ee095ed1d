"""Tests of codet5p_jax.training.program_costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from codet5p_jax.training.hlo.parser import parse
from codet5p_jax.training.program_costs import program_costs
from tests.training.hlo.test_collectives import BETWEEN_SLICES

# A loop of 3 trips in one of 5, in each a product and, in the outer, a sum over devices.
NESTED = """\
HloModule m, num_partitions=4

%inner_body (s: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %s = (s32[], f32[8,8]{1,0}) parameter(0)
  %i = s32[]{:S(6)} get-tuple-element(%s), index=0
  %one = s32[]{:S(6)} constant(1)
  %next = s32[]{:S(6)} add(%i, %one)
  %x = f32[8,8]{1,0} get-tuple-element(%s), index=1
  %dot = f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %r = (s32[], f32[8,8]{1,0}) tuple(%next, %dot)
}

%inner_condition (s: (s32[], f32[8,8])) -> pred[] {
  %s = (s32[]{:S(6)}, f32[8,8]{1,0}) parameter(0)
  %i = s32[]{:S(6)} get-tuple-element(%s), index=0
  %n = s32[]{:S(6)} constant(3)
  ROOT %c = pred[]{:S(6)} compare(%i, %n), direction=LT
}

%outer_body (s: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %s = (s32[], f32[8,8]{1,0}) parameter(0)
  %i = s32[]{:S(6)} get-tuple-element(%s), index=0
  %one = s32[]{:S(6)} constant(1)
  %next = s32[]{:S(6)} add(%i, %one)
  %x = f32[8,8]{1,0} get-tuple-element(%s), index=1
  %zero = s32[]{:S(6)} constant(0)
  %start = (s32[], f32[8,8]{1,0}) tuple(%zero, %x)
  %inner = (s32[], f32[8,8]{1,0}) while(%start), condition=%inner_condition, body=%inner_body
  %y = f32[8,8]{1,0} get-tuple-element(%inner), index=1
  %sum = f32[8,8]{1,0} all-reduce(%y), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %r = (s32[], f32[8,8]{1,0}) tuple(%next, %sum)
}

%outer_condition (s: (s32[], f32[8,8])) -> pred[] {
  %s = (s32[]{:S(6)}, f32[8,8]{1,0}) parameter(0)
  %i = s32[]{:S(6)} get-tuple-element(%s), index=0
  %n = s32[]{:S(6)} constant(5)
  ROOT %c = pred[]{:S(6)} compare(%i, %n), direction=LT
}

ENTRY %main (x: f32[8,8]) -> f32[8,8] {
  %x = f32[8,8]{1,0} parameter(0)
  %zero = s32[]{:S(6)} constant(0)
  %start = (s32[], f32[8,8]{1,0}) tuple(%zero, %x)
  %loop = (s32[], f32[8,8]{1,0}) while(%start), condition=%outer_condition, body=%outer_body, metadata={op_name="jit(f)/while"}
  ROOT %r = f32[8,8]{1,0} get-tuple-element(%loop), index=1
}
"""  # noqa: E501


def test_the_bodies_of_nested_loops_count_times_all_their_trips():
    costs = program_costs(NESTED)
    assert program_costs(parse(NESTED)) == costs
    assert costs.flops == 5 * 3 * (2 * 8 * 8 * 8)
    one = 4 * 8 * 8
    # The product and the sum each read one array and write one; the counters are no HBM.
    assert costs.hbm_bytes == 5 * (3 * 2 * one + 2 * one)
    (message,) = costs.collectives
    assert (message.kind, message.count, message.group_size) == ("all-reduce", 5, 2)
    assert costs.operand_bytes("all-reduce") == 5 * one
    assert costs.operand_bytes("all-gather") == 0
    assert costs.wire_bytes(across_slices=False) == 5 * one  # 2 (n - 1) / n of two devices
    assert costs.unknown == ()


def test_messages_between_slices_are_told_apart():
    within = program_costs(NESTED, slices=[0, 0, 1, 1])
    across = program_costs(NESTED, slices=[0, 1, 0, 1])
    assert within.wire_bytes(across_slices=True) == across.wire_bytes(across_slices=False) == 0.0
    assert within.wire_bytes(across_slices=False) == across.wire_bytes(across_slices=True) > 0


UNKNOWN = NESTED.replace("%n = s32[]{:S(6)} constant(5)", "%n = s32[]{:S(6)} partition-id()")


def test_a_loop_of_unknown_trips_is_an_error_that_names_it():
    message = r"how often the loop loop of jit\(f\)/while runs; give unknown_trips"
    with pytest.raises(ValueError, match=message):
        program_costs(UNKNOWN)


def test_unknown_trips_may_be_assumed_and_are_reported():
    costs = program_costs(UNKNOWN, unknown_trips=7)
    assert costs.flops == 7 * 3 * (2 * 8 * 8 * 8)
    assert costs.unknown == ("Trips of the loop loop of jit(f)/while: counted as 7.",)


BRANCHES = """\
HloModule m

%cheap (a: f32[8,8]) -> f32[8,8] {
  %a = f32[8,8]{1,0} parameter(0)
  ROOT %n = f32[8,8]{1,0} negate(%a)
}

%dear (b: f32[8,8]) -> f32[8,8] {
  %b = f32[8,8]{1,0} parameter(0)
  ROOT %d = f32[8,8]{1,0} dot(%b, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (p: pred[], x: f32[8,8]) -> f32[8,8] {
  %p = pred[] parameter(0)
  %x = f32[8,8]{1,0} parameter(1)
  ROOT %r = f32[8,8]{1,0} conditional(%p, %x, %x), NAMES
}
"""


@pytest.mark.parametrize(
    "names",
    [
        "branch_computations={%cheap, %dear}",
        "branch_computations={%dear, %cheap}",
        "true_computation=%cheap, false_computation=%dear",
    ],
)
def test_of_a_conditional_the_dearest_branch_counts(names):
    costs = program_costs(BRANCHES.replace("NAMES", names))
    assert (costs.flops, costs.elementwise_flops) == (2 * 8 * 8 * 8, 0)
    assert costs.hbm_bytes == 2 * 4 * 8 * 8


KERNEL = """\
HloModule m

ENTRY %main (x: f32[8,8]) -> f32[8,8] {
  %x = f32[8,8]{1,0} parameter(0)
  ROOT %r = f32[8,8]{1,0} custom-call(%x), custom_call_target="tpu_custom_call", metadata={op_name="jit(f)/attention"}, backend_config={"custom_call_config":{"body":"TUzv"COST}}
}
"""  # noqa: E501


def test_a_kernel_costs_what_its_author_says():
    said = ',"cost_estimate":{"flops":"123","transcendentals":"7","bytes_accessed":"456"}'
    costs = program_costs(KERNEL.replace("COST", said))
    assert (costs.flops, costs.transcendentals, costs.hbm_bytes) == (123, 7, 456)
    assert costs.unknown == ()


def test_a_kernel_that_says_nothing_is_reported():
    costs = program_costs(KERNEL.replace("COST", ""))
    assert (costs.flops, costs.hbm_bytes) == (0, 2 * 4 * 8 * 8)
    (sentence,) = costs.unknown
    assert sentence.startswith("FLOPs of the custom call tpu_custom_call (r of jit(f)/attention)")


@pytest.mark.parametrize(
    "target, moved", [("GatherScatterIndicesBitpacked", 2 * 4 * 8 * 8), ("SliceId", 0)]
)
def test_a_call_that_packs_or_names_has_no_flops_that_could_be_missed(target, moved):
    text = KERNEL.replace("COST", "").replace("tpu_custom_call", target)
    costs = program_costs(text)
    assert (costs.flops, costs.hbm_bytes, costs.unknown) == (0, moved, ())


# Of a TPU v5e program (libtpu 0.0.42), shortened: a gather spread over three fusions.
ASYNCHRONOUS = """\
HloModule m, num_partitions=4

%starting (a: bf16[512,128]) -> (bf16[512,128], bf16[2048,128], u32[]) {
  %a = bf16[512,128]{1,0} parameter(0)
  %gather.1 = bf16[2048,128]{1,0} all-gather(%a), channel_id=8, replica_groups=mesh['axis_0'=4,'axis_1'=1] {'axis_0'}, dimensions={0}, use_global_device_ids=true
  ROOT %s = (bf16[512,128]{1,0}, bf16[2048,128]{1,0}, u32[]{:S(2)}) custom-call(%gather.1), custom_call_target="AsyncCollectiveStart"
}

%computing (b: bf16[512,128], c: bf16[2048,128], d: u32[], x: bf16[64,64]) -> (bf16[64,64], bf16[512,128], bf16[2048,128], bf16[2048,128], u32[]) {
  %x = bf16[64,64]{1,0} parameter(3)
  %product = bf16[64,64]{1,0} convolution(%x, %x), dim_labels=bf_io->bf
  %b = bf16[512,128]{1,0} parameter(0)
  %c = bf16[2048,128]{1,0} parameter(1)
  %gather.2 = bf16[2048,128]{1,0} all-gather(%b), channel_id=8, replica_groups=mesh['axis_0'=4,'axis_1'=1] {'axis_0'}, dimensions={0}, use_global_device_ids=true
  %d = u32[]{:S(2)} parameter(2)
  ROOT %t = (bf16[64,64]{1,0}, bf16[512,128]{1,0}, bf16[2048,128]{1,0}, bf16[2048,128]{1,0}, u32[]{:S(2)}) tuple(%product, %b, %c, %gather.2, %d)
}

%finishing (e: bf16[512,128], f: bf16[2048,128], g: u32[]) -> bf16[2048,128] {
  %e = bf16[512,128]{1,0} parameter(0)
  %gather.3 = bf16[2048,128]{1,0} all-gather(%e), channel_id=8, replica_groups=mesh['axis_0'=4,'axis_1'=1] {'axis_0'}, dimensions={0}, use_global_device_ids=true
  %f = bf16[2048,128]{1,0} parameter(1)
  %g = u32[]{:S(2)} parameter(2)
  ROOT %h = bf16[2048,128]{1,0} custom-call(%e, %f, %gather.3, %g), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main (p: bf16[512,128], x: bf16[64,64]) -> bf16[2048,128] {
  %p = bf16[512,128]{1,0} parameter(0)
  %x = bf16[64,64]{1,0} parameter(1)
  %start = (bf16[512,128]{1,0}, bf16[2048,128]{1,0}, u32[]{:S(2)}) fusion(%p), kind=kCustom, calls=%starting
  %s0 = bf16[512,128]{1,0} get-tuple-element(%start), index=0
  %s1 = bf16[2048,128]{1,0} get-tuple-element(%start), index=1
  %s2 = u32[]{:S(2)} get-tuple-element(%start), index=2
  %step = (bf16[64,64]{1,0}, bf16[512,128]{1,0}, bf16[2048,128]{1,0}, bf16[2048,128]{1,0}, u32[]{:S(2)}) fusion(%s0, %s1, %s2, %x), kind=kOutput, output_to_operand_aliasing={{1}: (0, {}), {2}: (1, {}), {3}: (1, {}), {4}: (2, {})}, calls=%computing
  %t1 = bf16[512,128]{1,0} get-tuple-element(%step), index=1
  %t2 = bf16[2048,128]{1,0} get-tuple-element(%step), index=2
  %t4 = u32[]{:S(2)} get-tuple-element(%step), index=4
  ROOT %done = bf16[2048,128]{1,0} fusion(%t1, %t2, %t4), kind=kCustom, output_to_operand_aliasing={{}: (1, {})}, calls=%finishing
}
"""  # noqa: E501


def test_a_collective_that_is_spread_over_fusions_counts_once():
    costs = program_costs(ASYNCHRONOUS)
    (message,) = costs.collectives
    share = 2 * 512 * 128
    assert (message.kind, message.group_size, message.count) == ("all-gather", 4, 1)
    assert message.operand_bytes == share
    assert message.wire_bytes == 3 * share
    assert costs.flops == 2 * 64**3
    assert costs.hbm_bytes == (share + 4 * share) + 2 * (2 * 64 * 64)


def _mesh():
    return Mesh(np.array(jax.devices()), ("data",))


def _sharded(shape, *axes):
    sharding = NamedSharding(_mesh(), PartitionSpec(*axes))
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)


def _compiled_costs(function, *arguments, **options):
    mapped = jax.shard_map(function, mesh=_mesh(), **options)
    return program_costs(jax.jit(mapped).lower(*arguments).compile().as_text())


@pytest.mark.parametrize(
    "function, out, kind, wire_bytes",
    [
        (lambda x: jax.lax.psum(x, "data"), PartitionSpec(), "all-reduce", 2 * 7 / 8 * 512),
        (
            lambda x: jax.lax.all_gather(x, "data", tiled=True),
            PartitionSpec(None),
            "all-gather",
            7 * 512,
        ),
        (
            lambda x: jax.lax.psum_scatter(x, "data", tiled=True),
            PartitionSpec("data"),
            "reduce-scatter",
            7 / 8 * 512,
        ),
        (
            lambda x: jax.lax.ppermute(x, "data", [(i, (i + 1) % 8) for i in range(8)]),
            PartitionSpec("data"),
            "collective-permute",
            512,
        ),
    ],
)
def test_compiled_collectives_are_those_that_were_asked_for(function, out, kind, wire_bytes):
    costs = _compiled_costs(
        function,
        _sharded((64, 16), "data"),
        in_specs=PartitionSpec("data"),
        out_specs=out,
        check_vma=False,
    )
    (message,) = costs.collectives  # each device holds 8 x 16 floats: 512 bytes
    assert (message.kind, message.group_size, message.operand_bytes) == (kind, 8, 512)
    assert costs.wire_bytes(across_slices=False) == wire_bytes


def _stack(x, weights, *, scanned):
    def layer(x, w):
        return jnp.tanh(x @ w), None

    if scanned:
        return jax.lax.scan(layer, x, weights)[0].sum()
    for w in weights:
        x, _ = layer(x, w)
    return x.sum()


@pytest.mark.parametrize("gradient", [False, True])
def test_a_scanned_stack_costs_the_flops_of_the_unrolled_one(gradient):
    costs = []
    for scanned in (True, False):

        def loss(x, weights, scanned=scanned):
            return _stack(x, weights, scanned=scanned)

        function = jax.grad(loss, argnums=(0, 1)) if gradient else loss
        arguments = (jnp.ones((16, 32)), jnp.ones((4, 32, 32)))
        text = jax.jit(function).lower(*arguments).compile().as_text()
        costs.append(program_costs(text))
    scan, loop = costs
    passes = 3 if gradient else 1
    assert scan.flops == loop.flops == passes * 4 * (2 * 16 * 32 * 32)


def test_products_without_loops_cost_what_xla_says():
    def products(x, y):
        return jnp.einsum("bij,bjk->bik", x, y), x[0] @ y[0]

    compiled = jax.jit(products).lower(jnp.ones((3, 4, 5)), jnp.ones((3, 5, 6))).compile()
    analysed = compiled.cost_analysis()["flops"]
    assert program_costs(compiled.as_text()).flops == analysed == 2 * (3 + 1) * 4 * 5 * 6


@pytest.mark.tpu
@pytest.mark.parametrize("scanned", [True, False])
def test_a_stack_compiled_for_a_tpu_costs_what_its_layers_cost(scanned, monkeypatch):
    pytest.importorskip("libtpu")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # compiles only, holds no TPU
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    mesh = Mesh(np.array(topology.devices), ("data",))

    def placed(shape, *axes):
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding)

    def loss(weights, x):
        return _stack(x, weights, scanned=scanned)

    arguments = (placed((5, 512, 512)), placed((1024, 512), "data"))
    replicated = NamedSharding(mesh, PartitionSpec())
    gradient = jax.jit(jax.grad(loss), out_shardings=replicated)
    costs = program_costs(gradient.lower(*arguments).compile().as_text())
    # Three products a layer; the unrolled first layer needs no gradient of its input.
    assert costs.flops == (15 if scanned else 14) * (2 * 256 * 512 * 512)
    assert costs.operand_bytes("all-reduce") == 5 * 2 * 512 * 512
    assert costs.unknown == ()


def test_what_crosses_slices_is_counted_once_and_moved_twice():
    costs = program_costs(BETWEEN_SLICES)
    assert costs.wire_bytes(across_slices=True) == 144 * 8 * 128 * 2
    assert costs.wire_bytes(across_slices=False) == 0
    assert costs.hbm_bytes == 2 * 144 * 8 * 128 * 2 + 4  # read by send, written by recv; a flag
    assert costs.unknown == ()
