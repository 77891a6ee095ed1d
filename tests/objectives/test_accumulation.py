"""Tests of codet5p_jax.objectives.accumulation: chunks against the plain sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.objectives.accumulation import map_over_chunks, microbatches, sum_over_chunks

CHUNKS = 5


@pytest.fixture(scope="module")
def inputs():
    numbers = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(numbers.normal(size=shape), jnp.float32)

    params = {"kernel": draw(4, 3), "scale": draw(1, 3)}
    return params, draw(CHUNKS, 2, 3), {"x": draw(CHUNKS, 2, 4), "ids": jnp.arange(CHUNKS)}


def _loss(params, rows, data):
    h = jnp.tanh(data["x"] @ params["kernel"] + rows)
    return jnp.sum(h * params["scale"]), {"positive": jnp.sum(h > 0), "ids": data["ids"]}


def _plain(params, rows, data):
    chunks = [jax.tree.map(lambda x, i=i: x[i], (rows, data)) for i in range(CHUNKS)]
    values = [_loss(params, *chunk) for chunk in chunks]
    return sum(v[0] for v in values), {k: sum(v[1][k] for v in values) for k in ("positive", "ids")}


def _assert_close(a, b):  # float32 sums in another order
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


@pytest.mark.parametrize("choice", [None, [0, 1, 1, 0, 1]])
def test_sum_over_chunks_is_the_plain_sum_with_all_gradients(inputs, choice):
    params, rows, data = inputs
    choice = None if choice is None else jnp.array(choice)

    def squared(total_of):  # not linear: the cotangent of the sum is no constant
        def value(params, rows):
            total, aux = total_of(params, rows, data)
            return total**2 / 3, aux

        return jax.value_and_grad(value, argnums=(0, 1), has_aux=True)

    def chunked(*inputs):
        return sum_over_chunks([_loss, _loss], *inputs, choice=choice)

    _assert_close(jax.jit(squared(chunked))(params, rows), squared(_plain)(params, rows))


def test_without_a_gradient_the_sum_is_the_same(inputs):
    _assert_close(sum_over_chunks([_loss], *inputs), _plain(*inputs))


def test_what_is_not_differentiated_costs_no_gradient(inputs):
    params, rows, data = inputs

    def products(wanted):  # matrix products of the whole program
        def value(moving):
            return sum_over_chunks([_loss], {**params, **moving}, rows, data)[0]

        moving = {name: params[name] for name in wanted}
        return str(jax.make_jaxpr(jax.grad(value))(moving)).count("dot_general")

    assert products(["scale"]) == 1  # the forward product alone
    assert products(["scale", "kernel"]) == 2


def test_a_choice_takes_the_chosen_function(inputs):
    params, rows, data = inputs

    def other(params, rows, data):
        total, aux = _loss(params, rows, data)
        return 10 * total, aux

    total, _ = sum_over_chunks(
        [_loss, other], params, rows, data, choice=jnp.array([0, 0, 1, 0, 0])
    )
    third = _loss(params, rows[2], jax.tree.map(lambda x: x[2], data))[0]
    np.testing.assert_allclose(total, _plain(params, rows, data)[0] + 9 * third, rtol=1e-5)


@pytest.mark.parametrize("choice", [None, [0, 1, 1, 0, 1]])
def test_map_over_chunks_is_the_function_of_each_chunk_with_its_gradient(inputs, choice):
    params, _, data = inputs
    choice = None if choice is None else jnp.array(choice)

    def encode(params, data):
        return jnp.tanh(data["x"] @ params["kernel"]) * params["scale"]

    def of_all(encoded):  # a loss in which every chunk meets every other
        flat = encoded.reshape(-1, 3)
        return jnp.sum(jax.nn.logsumexp(flat @ flat.T, axis=-1))

    def chunked(params):
        return of_all(map_over_chunks([encode, encode], params, data, choice=choice))

    def whole(params):
        return of_all(jax.vmap(encode, in_axes=(None, 0))(params, data))

    _assert_close(jax.jit(jax.value_and_grad(chunked))(params), jax.value_and_grad(whole)(params))


def test_microbatches_take_rows_in_strides():
    parts = microbatches({"x": jnp.arange(6), "y": jnp.arange(12).reshape(6, 2)}, 3)
    assert parts["x"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert parts["y"][1].tolist() == [[2, 3], [8, 9]]


def test_microbatches_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match=r"MICROBATCHES is 4, which does not divide .* of 6 rows"):
        microbatches({"x": jnp.arange(6)}, 4)
