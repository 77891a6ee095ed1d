"""Tests of codet5p_jax.training.hlo.loops."""

import jax
import jax.numpy as jnp
import pytest

from codet5p_jax.training.hlo.loops import trip_count
from codet5p_jax.training.hlo.parser import parse

LOOP = """\
HloModule m

%body (state: (s32[], f32[4], s32[])) -> (s32[], f32[4], s32[]) {
  %state = (s32[], f32[4]{0}, s32[]) parameter(0)
  %counter = s32[] get-tuple-element(%state), index=0
  %copied = s32[] copy(%counter)
  %carried = f32[4]{0} get-tuple-element(%state), index=1
  %limit = s32[] get-tuple-element(%state), index=2
  %stride = s32[] constant(STRIDE)
  %next = s32[] add(%copied, %stride)
  ROOT %result = (s32[], f32[4]{0}, s32[]) tuple(%next, %carried, %limit)
}

%condition (state.1: (s32[], f32[4], s32[])) -> pred[] {
  %state.1 = (s32[], f32[4]{0}, s32[]) parameter(0)
  %counter.1 = s32[] get-tuple-element(%state.1), index=0
  %limit.1 = s32[] LIMIT
  ROOT %compare = pred[] compare(%counter.1, %limit.1), direction=DIRECTION
}

ENTRY %main (x: f32[4], n: s32[]) -> (s32[], f32[4], s32[]) {
  %x = f32[4]{0} parameter(0)
  %n = s32[] parameter(1)
  %constant = s32[] constant(FIRST)
  %first = s32[] copy(%constant)
  %ten = s32[] constant(10)
  %initial = (s32[], f32[4]{0}, s32[]) tuple(%first, %x, CARRIED)
  ROOT %loop = (s32[], f32[4]{0}, s32[]) while(%initial), condition=%condition, body=%body
}
"""


def _trips(
    first=0,
    stride=1,
    limit="constant(6)",
    direction="LT",
    carried="%ten",
    attributes="",
    replaced=("", ""),
):
    text = LOOP.replace("FIRST", str(first)).replace("STRIDE", str(stride))
    text = text.replace("LIMIT", limit).replace("DIRECTION", direction)
    text = text.replace("CARRIED", carried).replace("body=%body", f"body=%body{attributes}")
    module = parse(text.replace(*replaced) if replaced[0] else text)
    main = module.computations["main"]
    return trip_count(module, main, main.instructions["loop"])


@pytest.mark.parametrize(
    "first, stride, direction, trips",
    [
        (0, 1, "LT", 6),
        (2, 1, "LT", 4),
        (0, 4, "LT", 2),  # 0, 4
        (1, 1, "LE", 6),
        (0, 2, "NE", 3),
        (11, -1, "GT", 5),
        (11, -1, "GE", 6),
        (7, 1, "LT", 0),
    ],
)
def test_a_counter_is_followed_from_its_first_value_to_its_limit(first, stride, direction, trips):
    assert _trips(first, stride, direction=direction) == trips


def test_what_the_compiler_tells_counts():
    told = ', backend_config={"known_trip_count":{"n":"17"},"known_init_step":{"init":"0"}}'
    assert _trips(attributes=told) == 17


CARRIED_LIMIT = "get-tuple-element(%state.1), index=2"


def test_a_limit_that_the_loop_carries_unchanged_counts():
    assert _trips(limit=CARRIED_LIMIT) == 10


def test_the_limit_may_stand_on_the_left():
    mirrored = ("compare(%counter.1, %limit.1)", "compare(%limit.1, %counter.1)")
    assert _trips(direction="GT", replaced=mirrored) == 6
    assert _trips(limit=CARRIED_LIMIT, direction="GT", replaced=mirrored) == 10


def test_the_comparison_may_be_fused():
    text = """\
%fused (a: s32[], b: s32[]) -> pred[] {
  %a = s32[] parameter(0)
  %b = s32[] parameter(1)
  ROOT %less = pred[] compare(%a, %b), direction=LT
}

ENTRY"""
    fused = LOOP.replace("ENTRY", text).replace(
        "compare(%counter.1, %limit.1), direction=DIRECTION",
        "fusion(%counter.1, %limit.1), kind=kLoop, calls=%fused",
    )
    for name, value in {"FIRST": "0", "STRIDE": "3", "LIMIT": "constant(6)"}.items():
        fused = fused.replace(name, value)
    module = parse(fused.replace("CARRIED", "%ten"))
    main = module.computations["main"]
    assert trip_count(module, main, main.instructions["loop"]) == 2


@pytest.mark.parametrize(
    "changes",
    [
        dict(limit=CARRIED_LIMIT, carried="%n"),  # known only when it runs
        dict(replaced=("tuple(%first,", "tuple(%n,")),
        dict(replaced=("add(%copied, %stride)", "multiply(%copied, %stride)")),
        dict(stride=0),
        dict(direction="GT"),  # counts away from its limit
        dict(first=1, stride=2, direction="NE"),  # jumps over its limit
        dict(
            limit=CARRIED_LIMIT,
            replaced=("tuple(%next, %carried, %limit)", "tuple(%next, %carried, %next)"),
        ),
    ],
)
def test_trips_that_the_text_does_not_tell_are_unknown(changes):
    assert _trips(**changes) is None


def test_a_compiled_scan_has_the_trips_of_its_length():
    def run(x):
        return jax.lax.scan(lambda carry, _: (jnp.sin(carry) * 2, None), x, None, length=23)[0]

    module = parse(jax.jit(run).lower(jnp.ones(4)).compile().as_text())
    loops = [
        (computation, instruction)
        for computation in module.computations.values()
        for instruction in computation.instructions.values()
        if instruction.opcode == "while"
    ]
    assert [trip_count(module, *loop) for loop in loops] == [23]
