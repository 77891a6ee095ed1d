"""Tests of codet5p_jax.training.hlo.collectives."""

import pytest

from codet5p_jax.training.hlo.collectives import (
    collective,
    collective_kind,
    fused_collectives,
    slice_transfer,
)
from codet5p_jax.training.hlo.parser import parse


def _collective(groups, *, opcode="all-reduce", devices=8, slices=None):
    module = parse(
        f"HloModule m, num_partitions={devices}\n\n"
        "ENTRY %main (x: bf16[10,100]) -> bf16[10,100] {\n"
        "  %x = bf16[10,100]{1,0:T(8,128)(2,1)S(1)} parameter(0)\n"
        f"  ROOT %c = bf16[10,100]{{1,0}} {opcode}(%x), channel_id=1, {groups}, to_apply=%add\n}}\n"
    )
    main = module.computations["main"]
    return collective(module, main, main.instructions["c"], slices=slices)


@pytest.mark.parametrize(
    "groups, size",
    [
        ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", 2),
        ("replica_groups={}", 8),
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=1,'axis_2'=2] {'axis_0'}", 4),
        ("replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a','b'}", 8),
        ("replica_groups=mesh['a'=8] {'a':(2)4}", 4),
    ],
)
def test_groups_are_read_in_every_form(groups, size):
    assert _collective(groups).group_size == size


def test_what_a_device_gives_is_counted_without_padding():
    message = _collective("replica_groups={}")
    assert (message.kind, message.count, message.operand_bytes) == ("all-reduce", 1, 2 * 10 * 100)


# Devices 0-3 are of slice 0, 4-7 of slice 1.
@pytest.mark.parametrize(
    "groups, across",
    [
        ("replica_groups=[2,4]<=[8]", False),  # {0,1,2,3}, {4,5,6,7}
        ("replica_groups=[4,2]<=[2,4]T(1,0)", True),  # {0,4}, {1,5}, ...
        ("replica_groups={{0,2},{1,3},{4,6},{5,7}}", False),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}", False),
        ("replica_groups=mesh['a'=2,'b'=4] {'a'}", True),
        ("replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}", True),  # {0,4}, ...
        ("replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}", False),  # {0,1,2,3}
        ("replica_groups=mesh['a'=8] {'a':(1)2}", True),  # {0,4}, ...
        ("replica_groups=mesh['a'=8] {'a':(2)4}", False),  # {0,1,2,3}, {4,5,6,7}
    ],
)
def test_groups_that_reach_over_slices_are_known(groups, across):
    slices = [0, 0, 0, 0, 1, 1, 1, 1]
    assert _collective(groups, slices=slices).across_slices is across
    assert _collective(groups).across_slices is False


def test_a_permutation_reaches_where_its_pairs_do():
    within = _collective("source_target_pairs={{0,1},{1,2},{2,3}}", opcode="collective-permute")
    assert (within.kind, within.group_size) == ("collective-permute", 3)
    for pairs, across in (("{{0,1},{4,5}}", False), ("{{0,1},{3,4}}", True)):
        message = _collective(
            f"source_target_pairs={pairs}",
            opcode="collective-permute",
            slices=[0, 0, 0, 0, 1, 1, 1, 1],
        )
        assert message.across_slices is across


@pytest.mark.parametrize(
    "opcode, kind",
    [
        ("all-reduce", "all-reduce"),
        ("all-gather-start", "all-gather"),
        ("all-gather-done", None),
        ("ragged-all-to-all", "ragged-all-to-all"),
        ("copy-start", None),
        ("add", None),
    ],
)
def test_only_starts_and_whole_collectives_are_collectives(opcode, kind):
    assert collective_kind(opcode) == kind


def test_groups_of_an_unknown_form_are_an_error():
    with pytest.raises(ValueError, match=r"c \(all-reduce\) has replica groups of an unknown form"):
        _collective("replica_groups=stars")


def test_slices_that_lack_devices_are_an_error():
    with pytest.raises(ValueError, match=r"names device 7, and slices has only 4; give the slice"):
        _collective("replica_groups={}", slices=[0, 0, 1, 1])


# Of a TPU v5e program (libtpu 0.0.42), shortened: how it reduces and scatters.
SCATTERED = """\
HloModule m, num_partitions=4

%all-reduce-scatter (input: bf16[2048,2048]) -> bf16[528,2048] {
  %input = bf16[2048,2048]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %zero = bf16[] constant(0)
  %pad = bf16[2112,2048]{1,0:T(8,128)(2,1)} pad(%input, %zero), padding=0_64x0_0
  %all-reduce = bf16[2112,2048]{1,0:T(8,128)(2,1)} all-reduce(%pad), channel_id=6, replica_groups={{0,1,2,3}}, use_global_device_ids=true, to_apply=%add
  %device = u32[] partition-id()
  %rows = u32[] constant(528)
  %start = u32[]{:T(128)} multiply(%device, %rows)
  %first = u32[] constant(0)
  ROOT %part = bf16[528,2048]{1,0:T(8,128)(2,1)S(1)} dynamic-slice(%all-reduce, %start, %first), dynamic_slice_sizes={528,2048}
}

ENTRY %main (x: bf16[2048,2048]) -> bf16[528,2048] {
  %x = bf16[2048,2048]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  ROOT %fusion = bf16[528,2048]{1,0:T(8,128)(2,1)S(1)} fusion(%x), kind=kCustom, calls=%all-reduce-scatter
}
"""  # noqa: E501


def test_a_fused_sum_of_which_each_keeps_a_part_is_a_reduce_scatter():
    module = parse(SCATTERED)
    fused = module.computations["all-reduce-scatter"]
    (message,) = fused_collectives(module, fused, slices=None)
    assert (message.kind, message.group_size) == ("reduce-scatter", 4)
    assert message.operand_bytes == 2 * 2112 * 2048
    kept = SCATTERED.replace("ROOT %part", "%part").replace(
        "{528,2048}\n}", "{528,2048}\n  ROOT %all = (bf16[2112,2048]{1,0}) tuple(%all-reduce)\n}"
    )
    module = parse(kept)
    (message,) = fused_collectives(module, module.computations["all-reduce-scatter"], slices=None)
    assert message.kind == "all-reduce"


# Of a program for two slices of TPU v5e (libtpu 0.0.42), shortened: a sum over the slices.
BETWEEN_SLICES = """\
HloModule m, num_partitions=16

ENTRY %main (x: bf16[144,8,128]) -> bf16[144,8,128] {
  %x = bf16[144,8,128]{2,1,0:T(8,128)(2,1)} parameter(0)
  %token = token[] after-all()
  %send = (bf16[144,8,128]{2,1,0:T(8,128)(2,1)}, u32[], token[]) send(%x, %token), channel_id=10, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_reduce_operation="SUM",_xla_megascale_target="{1,2}x{0:15}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %sent = token[] send-done(%send), channel_id=10, is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv = (bf16[144,8,128]{2,1,0:T(8,128)(2,1)}, u32[], token[]) recv(%token), channel_id=9, is_host_transfer=true, frontend_attributes={_xla_megascale_target="{1,2}x{0:15}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %done = (bf16[144,8,128]{2,1,0:T(8,128)(2,1)}, token[]) recv-done(%recv), channel_id=9, is_host_transfer=true
  ROOT %y = bf16[144,8,128]{2,1,0:T(8,128)(2,1)} get-tuple-element(%done), index=0
}
"""  # noqa: E501


def _transfers(text):
    main = parse(text).computations["main"]
    found = {name: slice_transfer(main, line) for name, line in main.instructions.items()}
    return {name: transfer for name, transfer in found.items() if transfer}


def test_a_send_to_the_runtime_is_the_exchange_between_slices():
    transfers = _transfers(BETWEEN_SLICES)
    assert transfers.keys() == {"send"}  # nor its receive, nor what ends them
    message = transfers["send"]
    assert (message.kind, message.group_size, message.across_slices) == ("all-reduce", 2, True)
    assert message.operand_bytes == 144 * 8 * 128 * 2
    assert message.wire_bytes == message.operand_bytes  # 2 (n - 1) / n of two


@pytest.mark.parametrize("slices, size", [("0:3", 4), ("0,1,4:5", 4), ("7", 1)])
def test_slices_may_be_listed_or_given_by_their_ends(slices, size):
    assert _transfers(BETWEEN_SLICES.replace("{1,2}x", f"{{{slices}}}x"))["send"].group_size == size


def test_a_permutation_between_slices_is_known_by_another_name():
    transfers = _transfers(BETWEEN_SLICES.replace('"ALL_REDUCE"', '"ONE_TO_ONE"'))
    assert transfers["send"].kind == "collective-permute"


def test_a_send_elsewhere_is_no_exchange():
    assert _transfers(BETWEEN_SLICES.replace("_xla_megascale_transfer_type", "other")) == {}


def test_an_exchange_without_slices_is_an_error():
    with pytest.raises(ValueError, match=r"send \(send\) names no slices"):
        _transfers(BETWEEN_SLICES.replace("_xla_megascale_target", "other"))
