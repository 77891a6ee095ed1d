"""The modes of CodeT5p, and what must not change their numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codet5p_jax.kernels.attention_mask import MASKED
from codet5p_jax.models.codet5p import CodeT5p, abstract_params, last_eos_position
from codet5p_jax.models.sizes import MODELS

TEST = MODELS["codet5p_test"]
SAME = {"rtol": 1e-5, "atol": 1e-5}  # the same sums in another order, float32


class Jitted:
    """A model whose `apply` is compiled: many times faster than op by op."""

    def __init__(self, config):
        self.apply = jax.jit(CodeT5p(config).apply, static_argnames=("method", "train", "mutable"))


@pytest.fixture(scope="module")
def model_and_variables(initialised):
    return Jitted(TEST), initialised(TEST)[1]


def _loss_and_gradients(config, variables, batch):
    """Loss and gradients of fixed weights on the logits in training, padding rows left out."""
    rngs = {"dropout": jax.random.key(1)}

    def loss(variables):
        logits = CodeT5p(config).apply(variables, *batch, train=True, rngs=rngs)
        logits = logits[..., : config.vocab_size]
        return jnp.sum(logits * jnp.sin(jnp.arange(logits.size)).reshape(logits.shape))

    return jax.jit(jax.value_and_grad(loss))(variables)


@pytest.fixture(scope="module")
def scanned(initialised, padded_batch):
    return _loss_and_gradients(TEST, initialised(TEST)[1], padded_batch)


def _assert_same(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.parametrize(
    "change",
    [
        {"scan_unroll": 2},
        {"remat_policy": jax.checkpoint_policies.nothing_saveable},
        {"remat_policy": jax.checkpoint_policies.dots_saveable, "scan_unroll": 2},
    ],
    ids=["unrolled", "remat", "both"],
)
def test_how_it_is_computed_changes_nothing(model_and_variables, padded_batch, scanned, change):
    """Dropout included: scanned, unrolled or computed again, a layer draws the same masks."""
    _, variables = model_and_variables
    other = _loss_and_gradients(dataclasses.replace(TEST, **change), variables, padded_batch)
    _assert_same(other, scanned, rtol=1e-4, atol=1e-4)  # gradients sum over 26 positions


def test_unrolled_and_scanned_layers_have_the_same_parameters(initialised):
    _, scanned = initialised(TEST)
    _, unrolled = initialised(dataclasses.replace(TEST, scan_unroll=2))
    _assert_same(unrolled, scanned, rtol=0)


def test_packed_rows_equal_padded_rows(model_and_variables):
    model, variables = model_and_variables
    rng = np.random.default_rng(0)
    a, b = rng.integers(4, 400, [1, 6]), rng.integers(4, 400, [1, 5])
    start = np.zeros([1, 1], a.dtype)
    a_in, b_in = np.concatenate([start, a[:, :3]], 1), np.concatenate([start, b[:, :2]], 1)
    pad = np.zeros([1, 2], a.dtype)
    packed = model.apply(
        variables,
        jnp.asarray(np.concatenate([a, b, pad], 1)),
        jnp.asarray(np.concatenate([a_in, b_in, pad], 1)),
        jnp.array([[1] * 6 + [2] * 5 + [0] * 2]),
        jnp.array([[1] * 4 + [2] * 3 + [0] * 2]),
    )
    for tokens, inputs, where in ((a, a_in, slice(0, 4)), (b, b_in, slice(4, 7))):
        tokens = np.concatenate([tokens, pad], 1)
        alone = model.apply(variables, jnp.asarray(tokens), jnp.asarray(inputs))
        np.testing.assert_allclose(packed[:, where], alone, **SAME)


def test_padding_changes_nothing(model_and_variables):
    model, variables = model_and_variables
    encoder, decoder = jnp.array([[1, 9, 8, 2]]), jnp.array([[0, 1, 7]])
    longer = jnp.pad(encoder, [(0, 0), (0, 5)]), jnp.pad(decoder, [(0, 0), (0, 4)])
    padded = model.apply(variables, *longer)[:, :3]
    np.testing.assert_allclose(padded, model.apply(variables, encoder, decoder), **SAME)


@pytest.mark.parametrize("keep_encoded", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_cached_decoding_equals_full_decoding(
    model_and_variables, padded_batch, keep_encoded, steps
):
    model, variables = model_and_variables
    encoder, decoder = padded_batch
    encoded = model.apply(variables, encoder, method="encode")
    full = model.apply(variables, encoded, encoder, decoder, method="decode")
    kept = encoded if keep_encoded else None
    cache = CodeT5p(TEST).apply(variables, 3, 12, kept, method="init_cache")
    hidden = []
    for first in range(0, decoder.shape[1], steps):
        tokens = decoder[:, first : first + steps]
        h, cache = model.apply(variables, encoded, encoder, tokens, cache, method="decode_step")
        hidden.append(h)
    assert int(cache.position) == 9
    np.testing.assert_allclose(jnp.concatenate(hidden, axis=1), full, **SAME)


def test_cached_decoding_runs_in_a_loop(model_and_variables, padded_batch):
    model, variables = model_and_variables
    encoder, decoder = padded_batch
    encoded = model.apply(variables, encoder, method="encode")

    def step(cache, token):
        hidden, cache = model.apply(
            variables, encoded, encoder, token[:, None], cache, method="decode_step"
        )
        return cache, hidden[:, 0]

    cache = CodeT5p(TEST).apply(variables, 3, 9, encoded, method="init_cache")
    _, hidden = jax.jit(lambda cache: jax.lax.scan(step, cache, decoder.T))(cache)
    full = model.apply(variables, encoded, encoder, decoder, method="decode")
    np.testing.assert_allclose(jnp.swapaxes(hidden, 0, 1), full, **SAME)


def test_decoder_only_is_an_encoder_that_sees_clm_alone(model_and_variables, padded_batch):
    model, variables = model_and_variables
    _, decoder = padded_batch
    alone = model.apply(variables, decoder, method="decode_only")
    both = model.apply(variables, jnp.full([3, 1], 3), decoder)
    np.testing.assert_array_equal(alone, both)


def test_packed_decoder_only_rows_all_see_clm(model_and_variables):
    model, variables = model_and_variables
    packed = model.apply(
        variables, jnp.array([[0, 9, 8, 0, 7]]), jnp.array([[1, 1, 1, 2, 2]]), method="decode_only"
    )
    second = model.apply(variables, jnp.array([[0, 7]]), method="decode_only")
    np.testing.assert_allclose(packed[:, 3:], second, **SAME)


def test_rows_that_pad_the_vocabulary_do_not_matter(model_and_variables, padded_batch):
    model, variables = model_and_variables
    logits = model.apply(variables, *padded_batch)
    assert logits.shape[-1] == 512 and (logits[..., 503:] == MASKED).all()
    table = variables["params"]["token_embedder"]["embedding"]
    changed = {"embedding": table.at[503:].set(100.0)}
    other = model.apply(
        {"params": variables["params"] | {"token_embedder": changed}}, *padded_batch
    )
    np.testing.assert_array_equal(other, logits)


def test_rows_that_pad_the_vocabulary_get_no_gradient(model_and_variables, padded_batch):
    model, variables = model_and_variables

    def loss(variables):
        return jax.nn.log_softmax(model.apply(variables, *padded_batch))[..., 5].sum()

    table = jax.jit(jax.grad(loss))(variables)["params"]["token_embedder"]["embedding"]
    assert (table[503:] == 0).all() and (table[5] != 0).any()


def test_embeddings_have_unit_norm_and_ignore_padding(model_and_variables):
    model, variables = model_and_variables
    tokens = jnp.array([[1, 9, 8, 2, 0, 0], [1, 7, 7, 7, 7, 2]])
    embedded = model.apply(variables, tokens, method="embed")
    np.testing.assert_allclose(jnp.linalg.norm(embedded, axis=1), 1.0, rtol=1e-5)
    alone = model.apply(variables, tokens[:1, :4], method="embed")
    np.testing.assert_allclose(embedded[:1], alone, **SAME)


def test_embedding_is_the_normalised_projection_of_position_0(model_and_variables, padded_batch):
    model, variables = model_and_variables
    first = model.apply(variables, padded_batch[0], method="encode")[:, 0]
    head = variables["params"]["projection"]
    projected = np.asarray(first @ head["kernel"]) + np.asarray(head["bias"])
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(
        model.apply(variables, padded_batch[0], method="embed"), expected, **SAME
    )


def test_an_embedding_of_zeros_has_a_finite_gradient(model_and_variables):
    model, variables = model_and_variables
    params = variables["params"] | {
        "projection": {"kernel": jnp.zeros([16, 12]), "bias": jnp.zeros(12)}
    }

    def loss(params):
        return model.apply({"params": params}, jnp.array([[1, 2]]), method="embed").sum()

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params)))


def test_matching_replaces_the_first_code_token(model_and_variables):
    model, variables = model_and_variables
    text, code = jnp.array([[1, 9, 2]]), jnp.array([[1, 7, 8, 2, 0]])
    matched = model.apply(variables, text, code, method="match")
    other_start = model.apply(variables, text, code.at[:, 0].set(99), method="match")
    np.testing.assert_array_equal(matched, other_start)
    encoded = model.apply(variables, text, method="encode")
    by_hand = model.apply(
        variables, encoded, text, jnp.array([[500, 7, 8, 2, 0]]), method="match_encoded"
    )
    np.testing.assert_allclose(matched, by_hand, **SAME)


def test_matching_reads_the_hidden_state_at_the_last_eos(model_and_variables):
    model, variables = model_and_variables
    text, code = jnp.array([[1, 9, 2]]), jnp.array([[500, 2, 8, 2, 0]])
    encoded = model.apply(variables, text, method="encode")
    matched = model.apply(variables, encoded, text, code, method="match_encoded")
    hidden = model.apply(variables, encoded, text, code, method="decode")[:, 3]
    head = variables["params"]["matching_head"]
    expected = np.asarray(hidden @ head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(matched, expected, **SAME)


def test_last_eos_position_falls_back_to_the_last_token():
    tokens = jnp.array([[1, 2, 5, 2, 0], [1, 5, 6, 0, 0], [1, 2, 0, 0, 0], [0, 0, 0, 0, 0]])
    assert last_eos_position(tokens, eos_id=2, pad_id=0).tolist() == [3, 2, 1, 0]


def test_dropout_needs_its_rng_and_differs_between_layers(model_and_variables, padded_batch):
    model, variables = model_and_variables
    evaluated = model.apply(variables, *padded_batch)
    trained = model.apply(variables, *padded_batch, train=True, rngs={"dropout": jax.random.key(0)})
    assert not np.allclose(trained, evaluated)
    with pytest.raises(Exception, match="dropout"):
        model.apply(variables, *padded_batch, train=True)


def test_gradients_reach_every_parameter(model_and_variables, padded_batch):
    model, variables = model_and_variables

    def loss(variables):
        text, code = padded_batch
        match = model.apply(variables, text, code, method="match")
        embedding = model.apply(variables, text, method="embed")
        return jnp.sum(match**2) + jnp.sum(embedding[:, 0]) + jnp.sum(match[:, 0])

    grads = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables))
    still = [jax.tree_util.keystr(path) for path, grad in grads if not jnp.any(grad != 0)]
    assert not still


def test_an_encoder_alone_embeds_and_refuses_to_decode():
    config = dataclasses.replace(TEST, num_decoder_layers=0, matching_head=False)
    model, tokens = CodeT5p(config), jnp.array([[1, 9, 2]])
    variables = nn.unbox(model.init(jax.random.key(0), tokens, method="embed"))
    assert set(variables["params"]) == {"token_embedder", "encoder", "projection"}
    assert jax.tree.map(jnp.shape, variables["params"]) == jax.tree.map(
        jnp.shape, nn.unbox(abstract_params(config))
    )
    with pytest.raises(ValueError, match="num_decoder_layers is 0"):
        model.apply(variables, tokens, tokens)


@pytest.mark.parametrize(
    ("change", "method", "message"),
    [
        ({"projection_dim": None}, "embed", "T5Config.projection_dim is None. Set it"),
        ({"matching_head": False}, "match", "T5Config.matching_head is False. Set it"),
    ],
)
def test_a_mode_without_its_head_says_which_field_to_set(initialised, change, method, message):
    model, variables = initialised(dataclasses.replace(TEST, **change))
    tokens = jnp.array([[1, 9, 2]])
    arguments = (tokens,) if method == "embed" else (tokens, tokens)
    with pytest.raises(ValueError, match=message):
        model.apply(variables, *arguments, method=method)


def test_bfloat16_computation_stays_near_float32(initialised, padded_batch):
    _, variables = initialised(TEST)
    half = Jitted(dataclasses.replace(TEST, dtype=jnp.bfloat16))
    logits = half.apply(variables, *padded_batch)
    assert logits.dtype == jnp.float32
    exact = Jitted(TEST).apply(variables, *padded_batch)[..., :503]
    error = jnp.max(jnp.abs(logits[..., :503] - exact)) / jnp.max(jnp.abs(exact))
    assert error < 0.05  # 8 bits of mantissa through 4 layers


def test_sharded_like_one_device(model_and_variables, padded_batch):
    """Activation constraints hold under a mesh: data 3 x model 1 of the 8 CPU devices."""
    model, variables = model_and_variables
    expected = model.apply(variables, *padded_batch)
    mesh = jax.make_mesh(
        (3,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:3]
    )
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    rules = (("batch", "data"), ("vocab", None), ("activation_embed", None))
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
        batch = jax.device_put(padded_batch, rows)
        logits = model.apply(variables, *batch)
    assert logits.sharding.spec[0] == "data"
    np.testing.assert_allclose(logits, expected, **SAME)
