"""Names, shapes and logical axes of parameters are a contract with checkpoints and exports."""

import pathlib

import jax
import pytest
from flax import linen as nn

from codet5p_jax.models.codet5p import abstract_params
from codet5p_jax.models.config import MODELS

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"


def _table(name):
    params = abstract_params(MODELS[name])
    shapes = jax.tree_util.tree_leaves_with_path(nn.unbox(params))
    axes = jax.tree.leaves(
        nn.get_partition_spec(params), is_leaf=lambda x: isinstance(x, jax.sharding.PartitionSpec)
    )
    return "".join(
        f"{jax.tree_util.keystr(path, simple=True, separator='/')} {leaf.shape} {tuple(spec)}\n"
        for (path, leaf), spec in zip(shapes, axes, strict=True)
    )


@pytest.mark.parametrize("name", ["codet5p_220m", "codet5p_220m_bimodal"])
def test_parameters_equal_the_golden_file(name):
    golden = (GOLDEN / f"{name}.parameters.txt").read_text()
    assert _table(name) == golden, "if the change is meant, checkpoints and exports change too"
