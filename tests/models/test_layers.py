import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codet5p_jax.models import layers
from codet5p_jax.models.layers import FeedForward, Linear, RMSNorm, gelu_new

CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # one layer in float32


@pytest.fixture
def x(rng):
    return jax.random.normal(rng, [2, 3, 16])


def _torch(x):
    import torch

    return torch.tensor(np.asarray(x))


def _layer(tree, index=0):
    return {"params": jax.tree.map(lambda leaf: leaf[index], tree)}


def test_norm_equals_transformers(oracle, x):
    theirs = oracle.torch_model.encoder.block[1].layer[0].layer_norm(_torch(x)).detach()
    ours = RMSNorm().apply(_layer(oracle.params["encoder"]["layers"]["attention_norm"], 1), x)
    np.testing.assert_allclose(ours, theirs, **CLOSE)


def test_feed_forward_equals_transformers(oracle, x):
    theirs = oracle.torch_model.encoder.block[1].layer[1].DenseReluDense(_torch(x)).detach()
    params = _layer(oracle.params["encoder"]["layers"]["mlp"], 1)
    ours = FeedForward(mlp_dim=20).apply(params, x)
    np.testing.assert_allclose(ours, theirs, **CLOSE)


def test_gated_feed_forward_equals_transformers(gated_oracle, x):
    theirs = gated_oracle.torch_model.decoder.block[0].layer[2].DenseReluDense(_torch(x)).detach()
    params = _layer(gated_oracle.params["decoder"]["layers"]["mlp"])
    module = FeedForward(mlp_dim=20, activation=gelu_new, gated=True)
    np.testing.assert_allclose(module.apply(params, x), theirs, **CLOSE)


def test_feed_forward_matches_numpy(rng, x):
    module = FeedForward(mlp_dim=20)
    variables = nn.unbox(module.init(rng, x))
    wi, wo = (np.asarray(variables["params"][name]["kernel"]) for name in ("wi", "wo"))
    expected = np.maximum(np.asarray(x) @ wi, 0) @ wo
    np.testing.assert_allclose(module.apply(variables, x), expected, **CLOSE)


def test_norm_of_a_constant_is_its_sign():
    x = jnp.broadcast_to(jnp.array([3.0, -3.0])[:, None], [2, 4])
    variables = {"params": {"scale": jnp.ones(4)}}
    np.testing.assert_allclose(RMSNorm().apply(variables, x), np.sign(x), rtol=1e-6)


def test_kernels_carry_logical_axes(rng, x):
    variables = FeedForward(mlp_dim=20, gated=True).init(rng, x)
    spec = nn.get_partition_spec(variables)["params"]
    assert spec["wi_0"]["kernel"] == jax.sharding.PartitionSpec("embed", "mlp")
    assert spec["wo"]["kernel"] == jax.sharding.PartitionSpec("mlp", "embed")


def test_computation_in_bfloat16_keeps_float32_parameters(rng, x):
    module = Linear(5, ("embed", "mlp"), stddev=0.1, dtype=jnp.bfloat16)
    variables = nn.unbox(module.init(rng, x))
    assert variables["params"]["kernel"].dtype == jnp.float32
    assert module.apply(variables, x).dtype == jnp.bfloat16


@pytest.mark.parametrize("leading", [(6,), (2, 3)])
@pytest.mark.parametrize("device", ["CPU", "TPU"])
def test_a_projection_and_its_gradients_are_those_of_the_plain_product(
    rng, monkeypatch, leading, device
):
    if device == "TPU":
        monkeypatch.setattr(layers, "_product_of_rows", jnp.dot)
        product = layers._product_with_transposed
        monkeypatch.setattr(layers, "_product_with_transposed_copy", product)
    x, kernel = jax.random.normal(rng, [*leading, 16]), jax.random.normal(rng, [16, 5])
    ours, pull_back = jax.vjp(layers.project, x, kernel)
    plain, pull_back_plain = jax.vjp(jnp.dot, x, kernel)
    np.testing.assert_allclose(ours, plain, **CLOSE)
    for a, b in zip(pull_back(ours), pull_back_plain(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)  # sums of 6 products of size 10


def test_hidden_units_that_do_not_stay_change_nothing(rng, x):
    """Against the block without those units, the others scaled by one over what stays."""
    module = FeedForward(mlp_dim=20, dropout_rate=0.5)
    variables = nn.unbox(module.init(rng, x))
    keep = np.arange(20) < 10
    kernels = variables["params"]
    h = np.maximum(np.asarray(x) @ kernels["wi"]["kernel"][:, :10], 0) / 0.5
    expected = h @ kernels["wo"]["kernel"][:10]
    dropped = module.apply(variables, x, jnp.broadcast_to(keep, [x.shape[0], 20]))
    np.testing.assert_allclose(dropped, expected, rtol=1e-5, atol=1e-6)


def test_feed_forward_rejects_a_missing_batch_axis(rng):
    with pytest.raises(Exception, match="batch length embed"):
        FeedForward(mlp_dim=16).init(rng, jnp.ones([2, 8]))
