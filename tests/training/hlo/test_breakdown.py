"""Tests of codet5p_jax.training.hlo.breakdown."""

import jax
import jax.numpy as jnp

from codet5p_jax.training.hlo.breakdown import heaviest_instructions
from codet5p_jax.training.hlo.parser import parse
from codet5p_jax.training.program_costs import program_costs


def _scanned(x, weights):
    return jax.lax.scan(lambda carry, w: (jnp.sin(carry @ w), None), x, weights)[0]


def test_the_heaviest_instructions_stand_first_and_add_up_to_the_whole():
    arguments = (jnp.ones((16, 32)), jnp.ones((5, 32, 32)))
    module = parse(jax.jit(_scanned).lower(*arguments).compile().as_text())
    found = heaviest_instructions(module, count=1000)
    assert [entry.hbm_bytes for entry in found] == sorted(
        (entry.hbm_bytes for entry in found), reverse=True
    )
    assert sum(entry.hbm_bytes for entry in found) == program_costs(module).hbm_bytes
    heaviest = found[0]  # takes one of five matrices: by a counter, out of the stack, into its own
    assert (heaviest.runs, heaviest.hbm_bytes) == (5, 5 * (4 + 2 * 4 * 32 * 32))
    assert heaviest.origin.endswith("dynamic_slice")
    assert heaviest_instructions(module, count=1) == [heaviest]
