"""Tests of codet5p_jax.objectives.device_sums: on eight devices, as lowered and as run."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from codet5p_jax.objectives.device_sums import gather
from codet5p_jax.training.partitioning import Partitioner


def test_what_is_narrower_than_the_model_computes_in_travels_as_it_is():
    """Frozen parameters, say, kept in bfloat16 for a model in float32."""

    def both_ways(part):
        whole, pull = jax.vjp(lambda x: gather(x, (("data",),), jnp.float32), part)
        return whole, pull(jnp.ones_like(whole))[0]

    rows = PartitionSpec("data")
    function = jax.shard_map(
        both_ways,
        mesh=Partitioner().mesh,
        in_specs=rows,
        out_specs=(PartitionSpec(), rows),
        check_vma=False,
    )
    part = jnp.arange(16, dtype=jnp.bfloat16)
    text = jax.jit(function).lower(part).as_text()
    sent = re.findall(
        r"stablehlo\.(?:all_gather|reduce_scatter)\".*? : \(tensor<(.*?)>", text, re.S
    )
    assert sorted(sent) == ["16xbf16", "2xbf16"]
    whole, gradient = function(part)
    np.testing.assert_array_equal(whole, part)
    np.testing.assert_array_equal(gradient, np.full(16, 8))  # eight devices read each
