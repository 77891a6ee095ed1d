"""Tests of codet5p_jax.training.hlo.arithmetic."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from codet5p_jax.training.hlo.arithmetic import elementwise_flops, matmul_flops, transcendentals
from codet5p_jax.training.hlo.parser import parse


def _costs_of(*lines, cost=matmul_flops):
    body = "\n".join(f"  {line}" for line in lines)
    module = parse(f"HloModule m\n\nENTRY %main () -> f32[] {{\n{body}\n}}\n")
    main = module.computations["main"]
    return cost(main, main.instructions[main.root])


def test_a_dot_multiplies_and_adds_along_what_it_contracts():
    flops = _costs_of(
        "%a = f32[5,2,3,4]{3,2,1,0} parameter(0)",
        "%b = f32[5,3,4,7]{3,2,1,0} parameter(1)",
        "ROOT %dot = f32[5,2,7]{2,1,0} dot(%a, %b), lhs_batch_dims={0}, lhs_contracting_dims={2,3},"
        " rhs_batch_dims={0}, rhs_contracting_dims={1,2}",
    )
    assert flops == 2 * 5 * 2 * 7 * (3 * 4)


def test_a_matrix_product_may_be_written_as_a_convolution():
    flops = _costs_of(
        "%a = bf16[256,2048]{1,0} parameter(0)",
        "%b = bf16[512,2048]{1,0} parameter(1)",
        "ROOT %c = bf16[256,512]{1,0} convolution(%a, %b), dim_labels=bf_oi->bf",
    )
    assert flops == 2 * 256 * 2048 * 512


def test_a_batched_product_written_as_a_dilated_convolution_costs_the_product():
    # Of a TPU program: jnp.einsum("bqhd,bkhd->bhqk") of shape [8, 512, 12, 64].
    flops = _costs_of(
        "%a = bf16[8,512,12,64]{1,3,2,0} parameter(0)",
        "%b = bf16[8,12,512,512]{2,3,1,0} parameter(1)",
        "ROOT %c = bf16[8,12,64,512]{3,2,1,0} convolution(%a, %b),"
        " window={size=8x12 stride=7x11 lhs_dilate=8x12}, dim_labels=0f1b_01oi->01bf",
    )
    assert flops == 2 * 8 * 12 * 512 * 512 * 64


def _taps_inside(size, *, inputs, outputs, stride, pad, base, dilation):
    """Counts by walking: kernel and output positions whose input is neither padding nor a hole."""
    count = 0
    for tap, output in itertools.product(range(size), range(outputs)):
        place = output * stride + tap * dilation - pad
        count += place % base == 0 and 0 <= place // base < inputs
    return count


@pytest.mark.parametrize(
    "window, expected",
    [
        ("size=3 pad=1_1", dict(size=3, outputs=10, stride=1, pad=1, base=1, dilation=1)),
        ("size=3 stride=2", dict(size=3, outputs=4, stride=2, pad=0, base=1, dilation=1)),
        (
            "size=2 pad=1_2 lhs_dilate=3 rhs_dilate=2",
            dict(size=2, outputs=29, stride=1, pad=1, base=3, dilation=2),
        ),
        ("size=4 pad=-1_0", dict(size=4, outputs=6, stride=1, pad=-1, base=1, dilation=1)),
    ],
)
def test_padding_and_holes_cost_nothing(window, expected):
    flops = _costs_of(
        "%a = f32[2,10,6]{2,1,0} parameter(0)",
        f"%b = f32[{expected['size']},6,8]{{2,1,0}} parameter(1)",
        f"ROOT %c = f32[2,{expected['outputs']},8]{{2,1,0}} convolution(%a, %b),"
        f" window={{{window}}}, dim_labels=b0f_0io->b0f",
    )
    assert flops == 2 * 2 * 6 * 8 * _taps_inside(inputs=10, **expected)


@pytest.mark.parametrize(
    "groups, flops",
    [("", 8 * 10 * 6 * 4), (", feature_group_count=2", 8 * 10 * 3 * 4)],
)
def test_a_group_of_features_sees_only_its_own(groups, flops):
    kernel = 6 if not groups else 3
    found = _costs_of(
        "%a = f32[4,10,6]{2,1,0} parameter(0)",
        f"%b = f32[1,{kernel},4]{{2,1,0}} parameter(1)",
        f"ROOT %c = f32[4,10,4]{{2,1,0}} convolution(%a, %b), window={{size=1}},"
        f" dim_labels=b0f_0io->b0f{groups}",
    )
    assert found == flops


def test_a_group_of_the_batch_makes_only_its_own_features():
    found = _costs_of(
        "%a = f32[4,10,6]{2,1,0} parameter(0)",
        "%b = f32[1,6,8]{2,1,0} parameter(1)",
        "ROOT %c = f32[2,10,8]{2,1,0} convolution(%a, %b), window={size=1},"
        " dim_labels=b0f_0io->b0f, batch_group_count=2",
    )
    assert found == 2 * (4 // 2) * 10 * 6 * 8


def test_other_arithmetic_is_counted_apart():
    add = ("%a = f32[6,5]{1,0} parameter(0)", "ROOT %c = f32[6,5]{1,0} add(%a, %a)")
    tanh = ("%a = f32[6,5]{1,0} parameter(0)", "ROOT %c = f32[6,5]{1,0} tanh(%a)")
    total = (
        "%a = f32[6,5]{1,0} parameter(0)",
        "%z = f32[] constant(0)",
        "ROOT %c = f32[6]{0} reduce(%a, %z), dimensions={1}, to_apply=%sum",
    )
    assert _costs_of(*add) == 0
    assert _costs_of(*add, cost=elementwise_flops) == 30
    assert _costs_of(*tanh, cost=elementwise_flops) == 0
    assert _costs_of(*tanh, cost=lambda _, instruction: transcendentals(instruction)) == 30
    assert _costs_of(*total, cost=elementwise_flops) == 6 * 4


def test_a_compiled_convolution_costs_what_xla_says():
    def convolve(x, w):
        return jax.lax.conv_general_dilated(x, w, (2, 1), "SAME", rhs_dilation=(1, 2))

    compiled = jax.jit(convolve).lower(jnp.ones((2, 3, 9, 8)), jnp.ones((4, 3, 3, 2))).compile()
    module = parse(compiled.as_text())
    found = sum(
        matmul_flops(computation, instruction)
        for computation in module.computations.values()
        for instruction in computation.instructions.values()
    )
    assert found == compiled.cost_analysis()["flops"]
