"""Tests of codet5p_jax.training.hlo.traffic."""

import pytest

from codet5p_jax.training.hlo.parser import parse
from codet5p_jax.training.hlo.traffic import hbm_bytes

HEADER = "HloModule m\n\n"
FUSED = """\
%fused (a: f32[64,128], b: s32[]) -> f32[64,128] {
  %a = f32[64,128]{1,0} parameter(0)
  %b = s32[] parameter(1)
LINES
}

"""


def _moved(*lines, fused=()):
    text = HEADER
    if fused:
        text += FUSED.replace("LINES", "\n".join(f"  {line}" for line in fused))
    body = "\n".join(f"  {line}" for line in lines)
    module = parse(f"{text}ENTRY %main () -> f32[] {{\n{body}\n}}\n")
    main = module.computations["main"]
    return hbm_bytes(module, main, main.instructions[main.root])


A = "%a = f32[64,128]{1,0} parameter(0)"
A_BYTES = 4 * 64 * 128
INDEX = "%i = s32[]{:S(6)} parameter(1)"


def test_an_instruction_reads_its_operands_and_writes_its_result():
    b = "%b = f32[64,128]{1,0} parameter(1)"
    add = "ROOT %r = f32[64,128]{1,0} add(%a, %b)"
    assert _moved(A, b, add) == 3 * A_BYTES
    assert _moved(A, "ROOT %r = f32[64,128]{1,0} add(%a, %a)") == 2 * A_BYTES


def test_what_lies_in_vmem_moves_for_nothing():
    near = "%b = f32[64,128]{1,0:T(8,128)S(1)} parameter(1)"
    assert _moved(A, near, "ROOT %r = f32[64,128]{1,0:S(1)} add(%a, %b)") == A_BYTES
    assert _moved(A, near, "ROOT %r = f32[64,128]{1,0} add(%b, %b)") == A_BYTES


def test_the_padding_of_tiles_moves_too():
    narrow = "%n = bf16[64,2]{1,0:T(8,128)(2,1)} parameter(0)"
    assert _moved(narrow, "ROOT %r = bf16[64,2]{1,0:S(1)} negate(%n)") == 2 * 64 * 128


@pytest.mark.parametrize(
    "line",
    [
        "ROOT %r = f32[128,64]{1,0} bitcast(%a)",
        "ROOT %r = (f32[64,128]{1,0}) tuple(%a)",
        'ROOT %r = f32[64,128]{1,0} custom-call(%a), custom_call_target="ConcatBitcast"',
        "ROOT %r = f32[64,128]{1,0} copy-done(%a)",
        "ROOT %r = f32[64,128]{1,0} optimization-barrier(%a)",
    ],
)
def test_what_only_names_memory_moves_nothing(line):
    assert _moved(A, line) == 0


def test_a_pair_of_start_and_done_counts_once():
    there = "(f32[64,128]{1,0:S(1)}, f32[64,128]{1,0}, u32[]{:S(2)})"
    back = "(f32[64,128]{1,0}, f32[64,128]{1,0:S(1)}, u32[]{:S(2)})"
    assert _moved(A, f"ROOT %r = {there} copy-start(%a)") == A_BYTES
    near = "%b = f32[64,128]{1,0:S(1)} parameter(0)"
    assert _moved(near, f"ROOT %r = {back} copy-start(%b)") == A_BYTES
    part = "((f32[64,128]{1,0}), f32[16,128]{1,0:S(1)}, s32[]{:S(2)})"
    start = f"ROOT %r = {part} slice-start(%a), slice={{[0:16], [0:128]}}"
    assert _moved(A, start) == A_BYTES // 4
    gathered = "(f32[64,128]{1,0}, f32[256,128]{1,0})"
    assert _moved(A, f"ROOT %r = {gathered} all-gather-start(%a)") == 5 * A_BYTES
    assert _moved(A, "ROOT %r = f32[64,128]{1,0} all-reduce-start(%a)") == 2 * A_BYTES


def test_a_slice_moves_what_it_takes():
    sliced = "ROOT %r = f32[8,128]{1,0} dynamic-slice(%a, %i, %i), dynamic_slice_sizes={8,128}"
    assert _moved(A, INDEX, sliced) == 2 * A_BYTES // 8


def test_an_update_in_place_moves_what_it_puts():
    rows = "%u = f32[8,128]{1,0} parameter(2)"
    put = "ROOT %r = f32[64,128]{1,0} dynamic-update-slice(%a, %u, %i, %i)"
    assert _moved(A, INDEX, rows, put) == 2 * A_BYTES // 8
    places = "%p = s32[8]{0:S(1)} parameter(3)"
    added = "ROOT %r = f32[64,128]{1,0} scatter(%a, %p, %u), to_apply=%add"
    assert _moved(A, places, rows, added) == 3 * A_BYTES // 8  # reads what it adds to


FUSION = "ROOT %r = f32[64,128]{1,0} fusion(%a, %i), kind=kLoop, calls=%fused"


def test_what_is_inside_a_fusion_moves_nothing():
    lines = ("%t = f32[64,128]{1,0} tanh(%a)", "ROOT %n = f32[64,128]{1,0} negate(%t)")
    assert _moved(A, INDEX, FUSION, fused=lines) == 2 * A_BYTES


@pytest.mark.parametrize(
    "before",
    [
        "%x = f32[64,128]{1,0} negate(%a)",
        "%x = f32[64,128]{1,0} bitcast(%a)",
        "%x = f32[64,128]{1,0} copy(%a)",
    ],
)
def test_a_fusion_reads_of_an_operand_what_its_slices_take(before):
    lines = (
        before,
        "ROOT %s = f32[8,128]{1,0} dynamic-slice(%x, %b, %b), dynamic_slice_sizes={8,128}",
    )
    fusion = FUSION.replace("f32[64,128]", "f32[8,128]")
    assert _moved(A, INDEX, fusion, fused=lines) == 2 * A_BYTES // 8


def test_a_fusion_reads_all_of_an_operand_that_it_also_uses_whole():
    lines = (
        "%s = f32[8,128]{1,0} dynamic-slice(%a, %b, %b), dynamic_slice_sizes={8,128}",
        "%n = f32[64,128]{1,0} negate(%a)",
        "ROOT %u = f32[64,128]{1,0} dynamic-update-slice(%n, %s, %b, %b)",
    )
    assert (
        _moved(A, INDEX, FUSION, fused=lines) == 2 * A_BYTES
    )  # and its result is no update in place


def test_a_fusion_that_updates_an_operand_in_place_writes_only_the_update():
    lines = (
        "%one = f32[] constant(1)",
        "%s = f32[8,128]{1,0} broadcast(%one), dimensions={}",
        "ROOT %u = f32[64,128]{1,0} dynamic-update-slice(%a, %s, %b, %b)",
    )
    assert _moved(A, INDEX, FUSION, fused=lines) == A_BYTES // 8


def test_a_fusion_does_not_move_what_it_hands_through():
    lines = (
        "%one = f32[] constant(1)",
        "%s = f32[64,128]{1,0} broadcast(%one), dimensions={}",
        "ROOT %t = (f32[64,128]{1,0}, f32[64,128]{1,0}) tuple(%a, %s)",
    )
    pair = "(f32[64,128]{1,0}, f32[64,128]{1,0})"
    fusion = FUSION.replace("= f32[64,128]{1,0} fusion", f"= {pair} fusion")
    assert _moved(A, INDEX, fusion, fused=lines) == A_BYTES


def test_a_kernel_moves_what_its_author_says():
    kernel = 'ROOT %r = f32[64,128]{1,0} custom-call(%a), custom_call_target="tpu_custom_call"'
    said = (
        ', backend_config={"custom_call_config":{"cost_estimate":{"flops":"9",'
        '"transcendentals":"7","bytes_accessed":"456","remote_bytes_transferred":"0"}}}'
    )
    assert _moved(A, kernel + said) == 456
    assert _moved(A, kernel) == 2 * A_BYTES


def test_of_a_kernels_bytes_those_count_that_lie_in_hbm():
    """As its author counts, without the padding of tiles."""
    a = "%a = f32[64,72]{1,0:T(8,128)S(1)} parameter(0)"
    kernel = 'ROOT %r = f32[64,128]{1,0} custom-call(%a, %a), custom_call_target="tpu_custom_call"'
    of_a = 4 * 64 * 72
    said = f', backend_config={{"cost_estimate":{{"bytes_accessed":"{of_a + A_BYTES}"}}}}'
    assert _moved(a, kernel + said) == A_BYTES
    assert _moved(a.replace("S(1)", ""), kernel + said) == of_a + A_BYTES
